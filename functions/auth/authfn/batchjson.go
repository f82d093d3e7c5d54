package authfn

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"pushcluster/shared/push"
)

// What a node asks about together is a storm of clients that return, so both
// ends of it are written by hand; the fuzz tests hold them to encoding/json.

// plainTokens reads a [push.VerifyBatchRequest] as our nodes write it: without
// spaces and escapes. Where ok is false it may be right nevertheless.
func plainTokens(body []byte) (tokens []string, ok bool) {
	rest, ok := bytes.CutPrefix(body, []byte(`{"tokens":["`))
	if !ok {
		return nil, false
	}
	rest, ok = bytes.CutSuffix(rest, []byte(`"]}`))
	if !ok {
		return nil, false
	}
	tokens = strings.SplitN(string(rest), `","`, push.MaxTokens+1)
	for _, t := range tokens {
		if !needsNoEscape(t) {
			return nil, false
		}
	}
	return tokens, true
}

// needsNoEscape reports whether s is written in JSON as it stands.
func needsNoEscape(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return false
		}
	}
	return true
}

// appendAnswer appends a as JSON.
func appendAnswer(b []byte, a *push.VerifyBatchAnswer) []byte {
	b = append(b, `{"results":[`...)
	for i := range a.Results {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendResult(b, &a.Results[i])
	}
	return append(b, `]}`...)
}

func appendResult(b []byte, r *push.VerifyResult) []byte {
	if r.Identity != nil && r.Problem == nil {
		begin := len(b)
		b = append(b, `{"identity":`...)
		var ok bool
		if b, ok = appendIdentity(b, r.Identity); ok {
			return append(b, '}')
		}
		b = b[:begin]
	}
	text, err := json.Marshal(r)
	if err != nil {
		// Only info that is no JSON could cause it, and a token with such is invalid.
		text, _ = json.Marshal(push.VerifyResult{Problem: push.NewProblem(push.CodeInternal, "the answer could not be written")})
	}
	return append(b, text...)
}

// appendIdentity appends id as JSON, and reports false where it has something
// that is not written here.
func appendIdentity(b []byte, id *push.Identity) ([]byte, bool) {
	if id.Info != nil || !needsNoEscape(string(id.User)) || !needsNoEscape(id.TokenID) {
		return b, false
	}
	b = append(append(append(b, `{"user":"`...), id.User...), '"')
	b = appendTime(b, `,"expires_at":"`, id.ExpiresAt)
	b = appendTime(b, `,"issued_at":"`, id.IssuedAt)
	if id.TokenID != "" {
		b = append(append(append(b, `,"jti":"`...), id.TokenID...), '"')
	}
	b, ok := appendList(b, `,"channels":`, id.Channels)
	if !ok {
		return b, false
	}
	b, ok = appendList(b, `,"topics":`, id.Topics)
	return append(b, '}'), ok
}

// appendTime appends t behind head, nothing where t is zero.
func appendTime(b []byte, head string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return append(t.AppendFormat(append(b, head...), time.RFC3339Nano), '"')
}

// appendList appends list behind head, nothing where it is empty.
func appendList[T ~string](b []byte, head string, list []T) ([]byte, bool) {
	for i, s := range list {
		if !needsNoEscape(string(s)) {
			return b, false
		}
		if i == 0 {
			b = append(append(b, head...), '[')
		} else {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), s...), '"')
	}
	if len(list) > 0 {
		b = append(b, ']')
	}
	return b, true
}
