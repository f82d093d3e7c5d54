package verify

import (
	"bytes"
	"encoding/json"
	"time"

	"pushcluster/shared/push"
)

// batchBody is a [push.VerifyBatchRequest]. Tokens that go together are plain:
// nothing in them needs an escape.
func batchBody(questions []*question) []byte {
	const head, between, tail = `{"tokens":["`, `","`, `"]}`
	size := len(head) + len(tail)
	for _, q := range questions {
		size += len(q.token) + len(between)
	}
	b := append(make([]byte, 0, size), head...)
	for i, q := range questions {
		if i > 0 {
			b = append(b, between...)
		}
		b = append(b, q.token...)
	}
	return append(b, tail...)
}

// readBatch reads a [push.VerifyBatchAnswer] of n results.
func readBatch(answer []byte, n int) ([]push.VerifyResult, bool) {
	results, ok := quickBatch(answer, n)
	if !ok {
		var a push.VerifyBatchAnswer
		if json.Unmarshal(answer, &a) != nil {
			return nil, false
		}
		results = a.Results
	}
	return results, len(results) == n
}

// quickBatch reads an answer as Auth writes it, of n results, most of which are
// identities without info. Where ok is false it may be right nevertheless.
func quickBatch(answer []byte, n int) (results []push.VerifyResult, ok bool) {
	r := reader{answer}
	if !r.take(`{"results":[`) {
		return nil, false
	}
	results = make([]push.VerifyResult, n)
	identities := make([]push.Identity, n)
	for i := range results {
		if i > 0 && !r.take(`,`) {
			return nil, false
		}
		begin := r.rest
		if r.take(`{"identity":`) && r.identity(&identities[i]) && r.take(`}`) {
			results[i].Identity = &identities[i]
			continue
		}
		r.rest = begin
		value, ok := r.object()
		if !ok || json.Unmarshal(value, &results[i]) != nil {
			return nil, false
		}
	}
	return results, r.take(`]}`) && len(r.rest) == 0
}

// A reader reads JSON that is written without spaces.
type reader struct{ rest []byte }

// take takes s, if that comes next.
func (r *reader) take(s string) bool {
	if len(r.rest) < len(s) || string(r.rest[:len(s)]) != s {
		return false
	}
	r.rest = r.rest[len(s):]
	return true
}

// object takes an object, as it stands. Whether it is one is for encoding/json.
func (r *reader) object() ([]byte, bool) {
	depth, quoted := 0, false
	for i := 0; i < len(r.rest); i++ {
		switch c := r.rest[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
		if depth <= 0 {
			value := r.rest[:min(i+1, len(r.rest))]
			r.rest = r.rest[len(value):]
			return value, len(value) > 1
		}
	}
	return nil, false
}

// identity reads an identity without info, its fields in their order and its
// strings without escapes.
func (r *reader) identity(id *push.Identity) bool {
	if !r.take(`{"user":`) {
		return false
	}
	user, ok := r.text()
	id.User = push.UserID(user)
	if r.take(`,"expires_at":`) {
		ok = ok && r.time(&id.ExpiresAt)
	}
	if r.take(`,"issued_at":`) {
		ok = ok && r.time(&id.IssuedAt)
	}
	if r.take(`,"jti":`) {
		var jti []byte
		jti, ok2 := r.text()
		id.TokenID, ok = string(jti), ok && ok2
	}
	if r.take(`,"channels":`) {
		ok = ok && readList(r, &id.Channels)
	}
	if r.take(`,"topics":`) {
		ok = ok && readList(r, &id.Topics)
	}
	return ok && r.take(`}`)
}

// text reads a string of ASCII.
func (r *reader) text() ([]byte, bool) {
	if !r.take(`"`) {
		return nil, false
	}
	end := bytes.IndexByte(r.rest, '"')
	if end < 0 {
		return nil, false
	}
	s := r.rest[:end]
	for _, c := range s {
		if c < ' ' || c == '\\' || c >= 0x7f {
			return nil, false
		}
	}
	r.rest = r.rest[end+1:]
	return s, true
}

func (r *reader) time(t *time.Time) bool {
	s, ok := r.text()
	return ok && t.UnmarshalText(s) == nil
}

// readList reads a list of strings that is not empty.
func readList[T ~string](r *reader, list *[]T) bool {
	if !r.take(`[`) {
		return false
	}
	for {
		s, ok := r.text()
		if !ok {
			return false
		}
		*list = append(*list, T(s))
		if r.take(`]`) {
			return true
		}
		if !r.take(`,`) {
			return false
		}
	}
}
