package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"pushcluster/shared/push"
)

func TestReplay(t *testing.T) {
	const (
		one = `{"delivery":"d-1","was":"parked","outcome":"accepted","messages":[{"id":"a"},{"id":"b","repeat":true}]}` + "\n"
		end = `{"summary":{"deliveries":1,"results":{"accepted":1},"more":true,"next":"n"}}` + "\n"
	)
	stop := errors.New("enough")
	tests := map[string]struct {
		status int
		answer string
		err    string // part of it; empty: none
		items  int
		next   string
	}{
		"all of it":       {200, one + one + end, "", 2, "n"},
		"nothing":         {200, end, "", 0, "n"},
		"no line end":     {200, one + strings.TrimSpace(end), "", 1, "n"},
		"cut off":         {200, one, "ended before its summary", 1, ""},
		"nonsense":        {200, one + "<html>\n" + end, "no answer of pushcluster", 1, ""},
		"refused":         {429, `{"code":"too_many_requests","title":"Too many"}`, "Collect refused: Too many", 0, ""},
		"somebody else":   {502, "<html>", "status 502", 0, ""},
		"too long a line": {200, `{"delivery":"` + strings.Repeat("x", maxLine) + `"}` + "\n" + end, "token too long", 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, last := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.answer))
			})
			items := 0
			sum, err := c.Replay(t.Context(), "a b", Range{From: "f"}, func(i Item[Replayed]) error {
				items++
				if i.Value.Delivery != "d-1" || len(i.Value.Messages) != 2 || !i.Value.Messages[1].Repeat || string(i.Raw)+"\n" != one {
					t.Errorf("a line is %+v", i)
				}
				return nil
			})
			if items != tt.items || sum.Next != tt.next || (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("after %d lines Replay = %+v, %v, want %d lines, next %q, %q", items, sum, err, tt.items, tt.next, tt.err)
			}
			if uri := last().RequestURI; uri != "/v1/sources/a%20b/replay" {
				t.Errorf("asked %s", uri)
			}
		})
	}
	t.Run("stopped", func(t *testing.T) {
		c, _ := answering(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(one + one + end)) })
		if _, err := c.Replay(t.Context(), "a", Range{}, func(Item[Replayed]) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("Replay = %v, want what take said", err)
		}
	})
	t.Run("ended early", func(t *testing.T) {
		c, _ := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"summary":{"more":true,"problem":{"code":"unavailable","detail":"the store is away"}}}`))
		})
		sum, err := c.DryRun(t.Context(), "a", Range{}, nil)
		if err != nil || sum.Problem == nil || sum.Problem.Code != push.CodeUnavailable {
			t.Errorf("DryRun = %+v, %v, want a problem", sum, err)
		}
	})
}

// FuzzDecodeLine reads whatever may come in the middle of an answer.
func FuzzDecodeLine(f *testing.F) {
	f.Add([]byte(`{"delivery":"d","messages":[{"id":"a"}]}`))
	f.Add([]byte(`{"summary":{"more":true}}`))
	f.Add([]byte(`{"summary":null,"messages":{}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		item, sum, err := decodeLine[Replayed](line)
		if err == nil && sum == nil && len(item.Raw) == 0 {
			t.Errorf("decodeLine(%q) is nothing", line)
		}
	})
}
