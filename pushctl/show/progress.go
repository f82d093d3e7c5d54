package show

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	barWidth   = 24                     // characters of the bar
	barEvery   = 100 * time.Millisecond // between two drawings
	barUnknown = "…"
)

// A Progress is a line that tells how far something has come, drawn over and
// over. Without a terminal it draws nothing. Its methods are for one goroutine.
type Progress struct {
	out   io.Writer // nil: nobody looks
	what  string
	total int64 // 0: unknown
	now   func() time.Time

	began, drawn time.Time
	width        int // of the line that stands there
}

// NewProgress returns a line on out about what ("messages"), of which there are
// total; 0: nobody knows. A nil now means time.Now.
func NewProgress(out io.Writer, what string, total int64, now func() time.Time) *Progress {
	if now == nil {
		now = time.Now
	}
	p := &Progress{what: what, total: total, now: now}
	if Interactive(out) {
		p.out = out
	}
	p.began = now()
	return p
}

// Set says how far it has come: done, by the measure of total, and how many that
// is to people.
func (p *Progress) Set(done int64, count int) {
	now := p.now()
	if p.out == nil || now.Sub(p.drawn) < barEvery {
		return
	}
	p.drawn = now
	p.draw(line(p.what, done, p.total, count, now.Sub(p.began)))
}

// Clear takes the line away, before something else is written or at the end.
func (p *Progress) Clear() {
	if p.out != nil && p.width > 0 {
		p.draw("")
		fmt.Fprint(p.out, "\r")
		p.drawn = time.Time{}
	}
}

func (p *Progress) draw(text string) {
	width := len([]rune(text))
	fmt.Fprint(p.out, "\r"+text+strings.Repeat(" ", max(0, p.width-width)))
	p.width = width
}

// line is the text of a progress line.
func line(what string, done, total int64, count int, took time.Duration) string {
	rate := barUnknown
	if seconds := took.Seconds(); seconds > 0.5 {
		rate = fmt.Sprintf("%.0f/s", float64(count)/seconds)
	}
	if total <= 0 {
		return fmt.Sprintf("%d %s  %s", count, what, rate)
	}
	done = min(max(done, 0), total)
	full := int(done * barWidth / total)
	return fmt.Sprintf("[%s%s] %3d%%  %d %s  %s",
		strings.Repeat("█", full), strings.Repeat("·", barWidth-full), done*100/total, count, what, rate)
}
