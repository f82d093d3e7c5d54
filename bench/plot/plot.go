// Package plot draws line charts as SVG, with what the benchmark needs and no
// more.
package plot

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// A Scale maps values to a place on an axis.
type Scale int

// The scales.
const (
	Linear Scale = iota
	Log
)

// An Axis is one of a chart's two. Ticks without labels get their value.
type Axis struct {
	Title string
	Scale Scale
	Ticks []float64 // empty: chosen by the values
	// Label names a tick; nil: its value.
	Label func(float64) string
}

// A Line is one line of a chart; X rises.
type Line struct {
	Name string
	X, Y []float64
}

// A Chart is a line chart.
type Chart struct {
	Title string
	X, Y  Axis
	Lines []Line
}

// Size of the drawing and its margins, in pixels.
const (
	width, height           = 760, 440
	left, right, top, lower = 80, 170, 46, 56
)

// colours tell lines apart, also for most who see few colours.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"}

// Write draws the chart. Values that a log scale cannot show are left out.
func (c Chart) Write(w io.Writer) error {
	xs, ys := c.X.over(c.values(func(l Line) []float64 { return l.X })), c.Y.over(c.values(func(l Line) []float64 { return l.Y }))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	text(&b, (left+width-right)/2, 24, "middle", 15, c.Title)
	px := func(v float64) float64 { return left + xs.place(v)*(width-left-right) }
	py := func(v float64) float64 { return height - lower - ys.place(v)*(height-top-lower) }
	for _, t := range xs.ticks {
		line(&b, px(t), top, px(t), height-lower, "#ddd")
		text(&b, px(t), height-lower+18, "middle", 12, c.X.label(t))
	}
	for _, t := range ys.ticks {
		line(&b, left, py(t), width-right, py(t), "#ddd")
		text(&b, left-8, py(t)+4, "end", 12, c.Y.label(t))
	}
	line(&b, left, height-lower, width-right, height-lower, "#444")
	line(&b, left, top, left, height-lower, "#444")
	text(&b, (left+width-right)/2, height-14, "middle", 12, c.X.Title)
	fmt.Fprintf(&b, `<text transform="translate(20 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (top+height-lower)/2, escape(c.Y.Title))
	for i, l := range c.Lines {
		colour := colours[i%len(colours)]
		var points []string
		for j := range min(len(l.X), len(l.Y)) {
			if xs.shows(l.X[j]) && ys.shows(l.Y[j]) {
				points = append(points, fmt.Sprintf("%.1f,%.1f", px(l.X[j]), py(l.Y[j])))
			}
		}
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>`+"\n", colour, strings.Join(points, " "))
		for _, p := range points {
			x, y, _ := strings.Cut(p, ",")
			fmt.Fprintf(&b, `<circle cx="%s" cy="%s" r="3" fill="%s"/>`+"\n", x, y, colour)
		}
		y := float64(top + 10 + 20*i)
		fmt.Fprintf(&b, `<rect x="%d" y="%.0f" width="14" height="4" fill="%s"/>`+"\n", width-right+14, y-4, colour)
		text(&b, width-right+34, y, "start", 12, l.Name)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (c Chart) values(of func(Line) []float64) []float64 {
	var all []float64
	for _, l := range c.Lines {
		all = append(all, of(l)...)
	}
	return all
}

// A span is an axis over the values that it is to show.
type span struct {
	scale    Scale
	low, top float64
	ticks    []float64
}

func (a Axis) over(values []float64) span {
	s := span{scale: a.Scale, low: math.Inf(1), top: math.Inf(-1), ticks: a.Ticks}
	for _, v := range append(values, a.Ticks...) {
		if s.shows(v) {
			s.low, s.top = min(s.low, v), max(s.top, v)
		}
	}
	if s.low > s.top {
		s.low, s.top = 1, 2
	}
	if len(a.Ticks) > 0 {
		return s
	}
	if a.Scale == Log {
		for e := math.Floor(math.Log10(s.low)); e <= math.Ceil(math.Log10(s.top)); e++ {
			for _, m := range []float64{1, 2, 5} {
				s.ticks = append(s.ticks, m*math.Pow(10, e))
			}
		}
		s.ticks = trim(s.ticks, s.low, s.top)
	} else {
		s.low = min(s.low, 0)
		step := niceStep(s.top - s.low)
		for v := math.Floor(s.low/step) * step; v < s.top+step; v += step {
			s.ticks = append(s.ticks, v)
		}
	}
	s.low, s.top = min(s.low, s.ticks[0]), max(s.top, s.ticks[len(s.ticks)-1])
	return s
}

// trim leaves of ticks those between the last at or below low and the first at
// or above top.
func trim(ticks []float64, low, top float64) []float64 {
	from, to := 0, len(ticks)
	for i, t := range ticks {
		if t <= low {
			from = i
		}
		if t >= top && to == len(ticks) {
			to = i + 1
		}
	}
	return ticks[from:to]
}

// niceStep returns a round distance that makes about six ticks.
func niceStep(length float64) float64 {
	if length <= 0 {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(length/6)))
	for _, m := range []float64{1, 2, 5} {
		if length/(m*base) <= 7 {
			return m * base
		}
	}
	return 10 * base
}

func (s span) shows(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (s.scale != Log || v > 0)
}

// place returns where v is, from 0 to 1.
func (s span) place(v float64) float64 {
	low, top := s.low, s.top
	if s.scale == Log {
		v, low, top = math.Log10(v), math.Log10(low), math.Log10(top)
	}
	if top == low {
		return 0.5
	}
	return (v - low) / (top - low)
}

func (a Axis) label(v float64) string {
	if a.Label != nil {
		return a.Label(v)
	}
	if v >= 1000 && v < 1e7 {
		return strconv.FormatFloat(v, 'f', 0, 64) // and not 1e+04
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func line(b *strings.Builder, x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
}

func text(b *strings.Builder, x, y float64, anchor string, size int, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d">%s</text>`+"\n", x, y, anchor, size, escape(s))
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
