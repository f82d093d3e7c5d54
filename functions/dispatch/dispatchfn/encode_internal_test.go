package dispatchfn

import (
	"net/http/httptest"
	"testing"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

func TestAppendAnswer(t *testing.T) {
	result := func(ids ...push.MessageID) (a push.DispatchAnswer) {
		for _, id := range ids {
			a.Results = append(a.Results, push.DispatchResult{ID: id})
		}
		return a
	}
	failed := result("a", "b")
	failed.Results[1].Problem = push.NewProblem(push.CodeUnavailable, "later")
	tests := map[string]struct {
		answer push.DispatchAnswer
		plain  bool
	}{
		"one":          {result("k/1"), true},
		"several":      {result("a", "b c", "<d&e>"), true},
		"an empty id":  {result(""), true},
		"a quote":      {result(`a"b`), false},
		"a backslash":  {result(`a\b`), false},
		"a new line":   {result("a\nb"), false},
		"beyond ASCII": {result("é"), false},
		"delete":       {result("\x7f"), false},
		"a problem":    {failed, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := appendAnswer(nil, &tt.answer)
			if ok != tt.plain {
				t.Fatalf("appendAnswer = %q, %v, want %v", got, ok, tt.plain)
			}
			w := httptest.NewRecorder()
			serve.JSON(w, 200, tt.answer)
			if ok && string(got) != w.Body.String() {
				t.Errorf("appendAnswer = %q, serve.JSON answers %q", got, w.Body)
			}
		})
	}
}
