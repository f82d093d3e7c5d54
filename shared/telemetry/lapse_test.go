package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestLapse(t *testing.T) {
	away := errors.New("connection refused")
	tests := map[string]struct {
		outcomes []error
		want     []string // a part of each line
	}{
		"always well":        {[]error{nil, nil}, nil},
		"away, still":        {[]error{nil, away, away, away}, []string{`"fails"`}},
		"away, and back":     {[]error{away, away, nil, nil}, []string{`"fails","what":"renewal","err":"connection refused"`, `"works again","what":"renewal","failed":2`}},
		"twice":              {[]error{away, nil, away, nil}, []string{`"fails"`, `"failed":1`, `"fails"`, `"failed":1`}},
		"back before it was": {[]error{nil}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(slog.NewJSONHandler(&out, nil))
			l := Lapse{What: "renewal"}
			for _, err := range tt.outcomes {
				l.Note(log, err)
			}
			lines := strings.SplitAfter(out.String(), "\n")
			if len(lines)-1 != len(tt.want) {
				t.Fatalf("it told\n%s\nwant %d lines", &out, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %d is %s, want %s", i+1, lines[i], want)
				}
			}
		})
	}
}
