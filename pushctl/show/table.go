package show

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// A Style is how a cell looks where there are colours.
type Style string

// The styles.
const (
	Plain Style = ""
	Good  Style = "32" // what has come as far as it should
	Wait  Style = "33" // what is on its way
	Bad   Style = "31" // what somebody has to look at
	Faint Style = "2"
	Head  Style = "1"
)

// styles are those of words that mean the same wherever they stand in a cell of
// their own.
var styles = map[string]Style{
	"received": Good, "acknowledged": Good, "ready": Good, "made": Good, "accepted": Good, "added": Good,
	"scheduled": Wait, "stored": Wait, "draining": Wait, "no answer": Wait, "nobody": Wait, "changed": Wait,
	"parked": Bad, "expired": Bad, "not ready": Bad, "removed": Bad, "failed": Bad, "refused": Bad,
	"superseded": Faint, "cancelled": Faint, "no match": Faint, "same": Faint, "skipped": Faint, "–": Faint,
}

// paint returns text in a style, as terminals understand it.
func (p *Printer) paint(text string, s Style) string {
	if !p.Colour || s == Plain {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// Word returns a word in the style that its meaning has.
func (p *Printer) Word(word string) string { return p.paint(word, styles[word]) }

// Table writes rows below the names of their columns, in columns as wide as
// their widest cell. Without a row it writes none, in its words.
func (p *Printer) Table(none string, columns []string, rows [][]string) error {
	if len(rows) == 0 {
		return p.Linef("%s", none)
	}
	widths := make([]int, len(columns))
	measure := func(cells []string) {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	clean := make([][]string, len(rows))
	measure(columns)
	for i, row := range rows {
		clean[i] = make([]string, len(columns))
		for j := range columns {
			clean[i][j] = Clean(row[j])
			if clean[i][j] == "" {
				clean[i][j] = "–"
			}
		}
		measure(clean[i])
	}
	var page bytes.Buffer
	write := func(cells []string, style func(string) Style) {
		for i, cell := range cells {
			page.WriteString(p.paint(cell, style(cell)))
			if i < len(cells)-1 {
				page.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		page.WriteByte('\n')
	}
	write(columns, func(string) Style { return Head })
	for _, row := range clean {
		write(row, func(cell string) Style { return styles[cell] })
	}
	_, err := p.Out.Write(page.Bytes())
	return err
}

// Facts writes names and what belongs to each, one a line. A fact without a
// value is left out.
func (p *Printer) Facts(facts [][2]string) error {
	width := 0
	for _, f := range facts {
		if f[1] != "" {
			width = max(width, utf8.RuneCountInString(f[0]))
		}
	}
	var page bytes.Buffer
	for _, f := range facts {
		if f[1] == "" {
			continue
		}
		page.WriteString(p.paint(f[0], Head) + strings.Repeat(" ", width-utf8.RuneCountInString(f[0])+2))
		page.WriteString(p.paint(Clean(f[1]), styles[f[1]]) + "\n")
	}
	_, err := p.Out.Write(page.Bytes())
	return err
}

// Title writes what something is called, a word about it, and why, on one line.
func (p *Printer) Title(name, word, why string) error {
	line := p.paint(Clean(name), Head) + "  " + p.Word(word)
	if why != "" {
		line += ": " + Clean(why)
	}
	_, err := p.Out.Write([]byte(line + "\n"))
	return err
}
