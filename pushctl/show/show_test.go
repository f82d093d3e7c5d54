package show

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestTable(t *testing.T) {
	tests := map[string]struct {
		colour bool
		rows   [][]string
		want   string
	}{
		"none":      {false, nil, "nothing\n"},
		"aligned":   {false, [][]string{{"a", "received"}, {"äöü€", "x"}}, "NAME  STATE\na     received\näöü€  x\n"},
		"empty":     {false, [][]string{{"", "x"}}, "NAME  STATE\n–     x\n"},
		"commands":  {false, [][]string{{"a\x1b[2Jb", "x\ny"}}, "NAME    STATE\na\ufffd[2Jb  x\ufffdy\n"},
		"reversals": {false, [][]string{{"a\u202eb", "x"}}, "NAME  STATE\na\ufffdb   x\n"},
		"coloured":  {true, [][]string{{"a", "parked"}}, "\x1b[1mNAME\x1b[0m  \x1b[1mSTATE\x1b[0m\na     \x1b[31mparked\x1b[0m\n"},
		"no UTF-8":  {false, [][]string{{"a\xff", "x"}}, "NAME  STATE\na\ufffd    x\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			p := Printer{Out: &out, Colour: tt.colour}
			if err := p.Table("nothing", []string{"NAME", "STATE"}, tt.rows); err != nil || out.String() != tt.want {
				t.Errorf("Table = %q, %v, want %q", out.String(), err, tt.want)
			}
		})
	}
}

func TestFacts(t *testing.T) {
	var out bytes.Buffer
	p := Printer{Out: &out}
	if err := p.Facts([][2]string{{"id", "a\tb"}, {"a long name that is left out", ""}, {"event", "x"}}); err != nil {
		t.Fatal(err)
	}
	if want := "id     a\ufffdb\nevent  x\n"; out.String() != want {
		t.Errorf("Facts = %q, want %q", out.String(), want)
	}
}

func TestTitle(t *testing.T) {
	var out bytes.Buffer
	p := Printer{Out: &out, Colour: true}
	if err := p.Title("a/b", "failed", "why\x07"); err != nil {
		t.Fatal(err)
	}
	if want := "\x1b[1ma/b\x1b[0m  \x1b[31mfailed\x1b[0m: why\ufffd\n"; out.String() != want {
		t.Errorf("Title = %q, want %q", out.String(), want)
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	p := Printer{Out: &out, JSON: true}
	if err := p.Raw(json.RawMessage("{\n \"a\": 18446744073709551616,\n \"b\": \"<\"}")); err != nil {
		t.Fatal(err)
	}
	if err := p.Value(map[string]string{"c": "<&>\n"}); err != nil {
		t.Fatal(err)
	}
	if want := "{\"a\":18446744073709551616,\"b\":\"<\"}\n{\"c\":\"<&>\\n\"}\n"; out.String() != want {
		t.Errorf("written %q, want %q", out.String(), want)
	}
	if err := p.Raw(json.RawMessage("{")); err == nil {
		t.Error("half a value was written")
	}
}

func TestLine(t *testing.T) {
	tests := map[string]struct {
		done, total int64
		count       int
		took        time.Duration
		want        string
	}{
		"begun":         {0, 100, 0, 0, "[························]   0%  0 messages  …"},
		"half":          {50, 100, 500, 2 * time.Second, "[████████████············]  50%  500 messages  250/s"},
		"done":          {100, 100, 1000, 4 * time.Second, "[████████████████████████] 100%  1000 messages  250/s"},
		"beyond":        {120, 100, 1000, 4 * time.Second, "[████████████████████████] 100%  1000 messages  250/s"},
		"total unknown": {120, 0, 1000, 4 * time.Second, "1000 messages  250/s"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := line("messages", tt.done, tt.total, tt.count, tt.took); got != tt.want {
				t.Errorf("line = %q, want %q", got, tt.want)
			}
		})
	}
}

// A terminal is drawn upon at most ten times a second, and left as it was.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	p := NewProgress(&out, "messages", 10, func() time.Time { return now })
	p.Set(1, 1)
	p.Clear()
	if out.Len() > 0 {
		t.Fatalf("without a terminal %q was drawn", out.String())
	}
	p.out = &out
	for i := range 10 {
		p.Set(int64(i), i)
		now = now.Add(30 * time.Millisecond)
	}
	if drawn := strings.Count(out.String(), "\r"); drawn != 3 {
		t.Errorf("drawn %d times in 300 ms: %q", drawn, out.String())
	}
	out.Reset()
	p.Clear()
	p.Clear()
	if got := out.String(); strings.Trim(got, " \r") != "" || strings.Count(got, "\r") != 2 || !strings.HasSuffix(got, "\r") {
		t.Errorf("cleared by %q", got)
	}
}

func TestTime(t *testing.T) {
	at := time.Date(2030, 1, 31, 10, 30, 0, 500, time.FixedZone("", 3600))
	if got := Time(at); got != "2030-01-31T09:30:00Z" {
		t.Errorf("Time = %s", got)
	}
	if got := Time(time.Time{}); got != "–" {
		t.Errorf("Time of none = %s", got)
	}
}

// FuzzClean shows that nothing from elsewhere commands the terminal.
func FuzzClean(f *testing.F) {
	f.Add("a\x1b]0;title\x07b\u009b2J")
	f.Add("\xff\u202e\u2066")
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, commands) || Clean(got) != got {
			t.Errorf("Clean(%q) = %q", s, got)
		}
	})
}
