package dispatchfn

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/segmentio/encoding/json"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// decodeRequest decodes a request as [serve.DecodeBytes] does, and what is
// written as Collect writes it without reflection: that is a third of what
// Dispatch does for a message otherwise. The messages share the memory of body,
// which must not be modified afterwards.
func decodeRequest(body []byte, req *push.DispatchRequest) *push.Problem {
	s := scanner{b: body}
	if utf8.Valid(body) && s.request(req) {
		return nil
	}
	*req = push.DispatchRequest{}
	return serve.DecodeBytes(body, req)
}

// A scanner reads the plain part of JSON: known fields, each once, texts without
// escapes, no null. Its methods report false where they find anything else,
// right or wrong, and what they were to set is not defined then.
type scanner struct {
	b  []byte
	at int
}

// next skips white space and returns the byte behind it, 0 at the end.
func (s *scanner) next() byte {
	for ; s.at < len(s.b); s.at++ {
		switch c := s.b[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// take skips white space and then c.
func (s *scanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

// text reads a string.
func (s *scanner) text() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	n := bytes.IndexByte(s.b[s.at:], '"')
	if n < 0 {
		return nil, false
	}
	text := s.b[s.at : s.at+n]
	for _, c := range text {
		if c < ' ' || c == '\\' {
			return nil, false
		}
	}
	s.at += n + 1
	return text, true
}

// list reads what stands between first and last, separated by commas, by calling
// item for each.
func (s *scanner) list(first, last byte, item func() bool) bool {
	if !s.take(first) {
		return false
	}
	if s.next() == last {
		s.at++
		return true
	}
	for {
		if !item() {
			return false
		}
		switch s.next() {
		case ',':
			s.at++
		case last:
			s.at++
			return true
		default:
			return false
		}
	}
}

// object reads an object by calling field for each of its fields, none twice,
// with its place among names.
func (s *scanner) object(names []string, field func(n int) bool) bool {
	seen := 0
	return s.list('{', '}', func() bool {
		name, ok := s.text()
		if !ok || !s.take(':') {
			return false
		}
		for n, known := range names {
			if string(name) == known {
				if seen&(1<<n) != 0 {
					return false
				}
				seen |= 1 << n
				return field(n)
			}
		}
		return false
	})
}

var (
	requestFields   = []string{"again", "messages"}
	messageFields   = []string{"id", "to", "event", "data", "collapse_key", "created_at", "expires_at", "deliver_at", "trace"}
	recipientFields = []string{"users", "channels", "all"}
)

func (s *scanner) request(req *push.DispatchRequest) bool {
	whole := s.object(requestFields, func(n int) bool {
		if n == 0 {
			return s.boolean(&req.Again)
		}
		req.Messages = make([]push.Message, 0, min(max(1, bytes.Count(s.b, []byte(`"created_at"`))), MaxMessages+1))
		return s.list('[', ']', func() bool {
			if len(req.Messages) == cap(req.Messages) {
				return false // more than times they were made at, or than a request may have
			}
			req.Messages = req.Messages[:len(req.Messages)+1]
			return s.message(&req.Messages[len(req.Messages)-1])
		})
	})
	return whole && s.next() == 0 && s.at == len(s.b)
}

func (s *scanner) message(m *push.Message) bool {
	return s.object(messageFields, func(n int) (ok bool) {
		switch n {
		case 0:
			return readText(s, &m.ID)
		case 1:
			return s.recipients(&m.To)
		case 2:
			return readText(s, &m.Event)
		case 3:
			m.Data, ok = s.value()
			return ok
		case 4:
			return readText(s, &m.CollapseKey)
		case 5:
			return s.time(&m.CreatedAt)
		case 6:
			return s.time(&m.ExpiresAt)
		case 7:
			return s.time(&m.DeliverAt)
		default:
			return readText(s, &m.Trace)
		}
	})
}

func (s *scanner) recipients(to *push.Recipients) bool {
	return s.object(recipientFields, func(n int) bool {
		switch n {
		case 0:
			to.Users = []push.UserID{}
			return readTexts(s, &to.Users)
		case 1:
			to.Channels = []push.Channel{}
			return readTexts(s, &to.Channels)
		default:
			return s.boolean(&to.All)
		}
	})
}

func readText[T ~string](s *scanner, v *T) bool {
	text, ok := s.text()
	*v = T(text)
	return ok
}

func readTexts[T ~string](s *scanner, list *[]T) bool {
	return s.list('[', ']', func() bool {
		text, ok := s.text()
		*list = append(*list, T(text))
		return ok
	})
}

func (s *scanner) boolean(v *bool) bool {
	s.next()
	for _, known := range []bool{true, false} {
		if text := strconv.FormatBool(known); bytes.HasPrefix(s.b[s.at:], []byte(text)) {
			*v = known
			s.at += len(text)
			return true // what follows must be a comma or an end
		}
	}
	return false
}

func (s *scanner) time(v *time.Time) bool {
	s.next()
	from := s.at
	_, ok := s.text()
	return ok && v.UnmarshalJSON(s.b[from:s.at]) == nil
}

// value reads any value as it stands.
func (s *scanner) value() ([]byte, bool) {
	s.next()
	from := s.at
	if !s.skip() {
		return nil, false
	}
	value := s.b[from:s.at:s.at]
	return value, json.Valid(value) && string(value) != "null"
}

// skip goes to the end of a value, if it is one.
func (s *scanner) skip() bool {
	depth := 0
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case '"':
			s.at++
			for s.at < len(s.b) && s.b[s.at] != '"' {
				if s.b[s.at] == '\\' {
					s.at++
				}
				s.at++
			}
			if s.at >= len(s.b) {
				return false
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth < 0 {
				return true // of a number or a word, which ends before this
			}
		case ',':
			if depth == 0 {
				return true // as above
			}
			s.at++
			continue
		default:
			s.at++
			continue
		}
		s.at++
		if depth == 0 {
			return true
		}
	}
	return false
}
