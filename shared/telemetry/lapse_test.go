package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLapse(t *testing.T) {
	type try struct {
		after time.Duration // since the one before it
		err   error
	}
	const fails, works = `"fails","what":"renewal","err":"connection refused"`, `"works again","what":"renewal","failed":`
	away := errors.New("connection refused")
	well, bad, later := try{}, try{err: away}, try{after: lapseRest}
	amid := []try{well, bad, well, well, bad, well, bad, well, bad, well, bad}
	tests := map[string]struct {
		tries []try
		want  []string // a part of each line
	}{
		"always well":          {[]try{well, well, later}, nil},
		"away, still":          {[]try{well, bad, bad, bad}, []string{fails}},
		"away, and back":       {[]try{bad, bad, later, well}, []string{fails, works + "2"}},
		"back just now":        {[]try{bad, {after: lapseRest - 1}}, []string{fails}},
		"twice":                {[]try{bad, later, bad, later}, []string{fails, works + "1", fails, works + "1"}},
		"one of some":          {amid, []string{fails}},
		"one of some, and not": {append(amid, well, later, well), []string{fails, works + "5"}},
		"seldom, all of it":    {[]try{bad, {10 * time.Minute, away}, {10 * time.Minute, nil}}, []string{fails, works + "2"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				log := slog.New(slog.NewJSONHandler(&out, nil))
				l := Lapse{What: "renewal"}
				for _, try := range tt.tries {
					time.Sleep(try.after)
					l.Note(log, try.err)
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
		})
	}
}
