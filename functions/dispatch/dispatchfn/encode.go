package dispatchfn

import (
	"slices"

	"pushcluster/shared/push"
)

// appendAnswer appends to dst what [serve.JSON] would answer, made without
// reflection. It reports false, and what it returns is of no use, where something
// is not confirmed or an id would have to be escaped.
func appendAnswer(dst []byte, a *push.DispatchAnswer) ([]byte, bool) {
	const head, tail, around = `{"results":[`, "]}\n", len(`{"id":""},`)
	size := len(head) + len(tail)
	for i := range a.Results {
		size += len(a.Results[i].ID) + around
	}
	dst = append(slices.Grow(dst, size), head...)
	for i := range a.Results {
		r := &a.Results[i]
		if r.Problem != nil || !isPlain(string(r.ID)) {
			return nil, false
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, `{"id":"`...), r.ID...), `"}`...)
	}
	return append(dst, tail...), true
}

// isPlain reports whether text stands for itself in a string of JSON.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
