package collectfn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
)

// Limits of one message that push does not know.
const (
	maxID    = push.MaxName // bytes of the id that a sender gives
	maxDepth = 100          // levels of arrays and objects in data: JSON parsers down the line have limits
	minTTL   = time.Second
	maxAhead = push.MaxTTL // from now to deliver_at
)

// An input is one message as its sender writes it.
type input struct {
	ID          *string         `json:"id"`
	To          push.Recipients `json:"to"`
	Event       string          `json:"event"`
	Data        json.RawMessage `json:"data"`
	TTL         *string         `json:"ttl"`
	CollapseKey string          `json:"collapse_key"`
	DeliverAt   *string         `json:"deliver_at"`
}

// A draft is a message that can be sent, before it is stored.
type draft struct {
	store.Record
	ttl time.Duration
	due time.Time // the deliver_at that was asked for; zero: none
	// callback is the source that wants to be told what becomes of it; "": none.
	callback string
}

// created dates the message: it expires its ttl after it was created or, where
// it is to be delivered later than that, after it is due.
func (d *draft) created(at time.Time) {
	d.CreatedAt, d.DeliverAt = at, time.Time{}
	from := at
	if d.due.After(at) {
		d.DeliverAt, from = d.due, d.due
	}
	d.ExpiresAt = from.Add(d.ttl)
}

// A request is what one POST asks for, before any of it is checked.
type request struct {
	sender string    // the name of the API key
	key    string    // of the Idempotency-Key header; "" if there is none
	trace  string    // W3C traceparent
	now    time.Time // whole milliseconds
}

// draft reads one message. Its id is SENDER/ID with the ID of the message or
// the given key, which may not differ, else a UUIDv7.
func (q request) draft(raw []byte, key string) (*draft, *push.Problem) {
	var in input
	if p := serve.DecodeBytes(raw, &in); p != nil {
		return nil, p
	}
	d, p := q.draftOf(&in, key)
	if p == nil && push.HasHalfCharacter(raw) {
		p = d.checkHalves()
	}
	if p != nil {
		return nil, p
	}
	return d, nil
}

// checkHalves says why a message cannot be sent that was read of JSON with half
// characters: of a name that has lost one nobody knows whom or what it names. In
// event and data they do no harm.
func (d *draft) checkHalves() *push.Problem {
	field := ""
	switch {
	case push.HasReplacement(d.ID):
		field = "id"
	case slices.ContainsFunc(d.To.Users, push.HasReplacement[push.UserID]):
		field = "to.users"
	case slices.ContainsFunc(d.To.Channels, push.HasReplacement[push.Channel]):
		field = "to.channels"
	case push.HasReplacement(d.CollapseKey):
		field = "collapse_key"
	default:
		return nil
	}
	return push.NewProblem(push.CodeInvalidMessage, "%s holds half a character: one of a pair of \\u escapes is missing", field)
}

// draftOf checks a message that was read, as draft does.
func (q request) draftOf(in *input, key string) (*draft, *push.Problem) {
	given, p := givenID(in.ID, key)
	if p != nil {
		return nil, p
	}
	to, err := recipients(in.To)
	if err != nil {
		return nil, invalid(err)
	}
	for _, f := range []struct{ name, text string }{{"event", in.Event}, {"collapse_key", in.CollapseKey}} {
		if err := checkText(f.name, f.text); err != nil {
			return nil, invalid(err)
		}
	}
	data, p := compactData(in.Data)
	if p != nil {
		return nil, p
	}
	ttl, err := parseTTL(in.TTL)
	if err != nil {
		return nil, invalid(err)
	}
	due, err := parseDeliverAt(in.DeliverAt, q.now)
	if err != nil {
		return nil, invalid(err)
	}
	d := &draft{ttl: ttl, due: due}
	d.Message = push.Message{To: to, Event: in.Event, Data: data, CollapseKey: in.CollapseKey, Trace: q.trace}
	d.created(q.now)
	if given == "" {
		// The sender's name tells others' keys that it is not theirs. Nobody sends it
		// again under an id that we have made, so it needs no fingerprint.
		id, err := uuid.NewV7()
		if err != nil {
			return nil, push.NewProblem(push.CodeInternal, "no id could be made")
		}
		d.ID = push.MessageID(q.sender + "/" + id.String())
		return d, nil
	}
	d.ID = push.MessageID(q.sender + "/" + given)
	d.Fingerprint = fingerprint(d)
	return d, nil
}

func invalid(err error) *push.Problem { return push.NewProblem(push.CodeInvalidMessage, "%v", err) }

// givenID returns the id that the sender gave in the message or as a key, "" if
// in neither.
func givenID(field *string, key string) (string, *push.Problem) {
	if field == nil {
		return key, nil
	}
	if key != "" && key != *field {
		return "", push.NewProblem(push.CodeBadRequest, "id and Idempotency-Key are both given and differ")
	}
	if *field == "" {
		return "", invalid(errors.New("id is empty; leave it out to have one made"))
	}
	if len(*field) > maxID {
		return "", invalid(fmt.Errorf("id is %d bytes long, more than %d", len(*field), maxID))
	}
	if err := checkText("id", *field); err != nil {
		return "", invalid(err)
	}
	return *field, nil
}

// recipients checks whom a message is for and returns them sorted, each once.
func recipients(to push.Recipients) (push.Recipients, error) {
	if to.IsZero() {
		return to, errors.New("to addresses nobody; name users or channels, or set all")
	}
	if n := len(to.Users) + len(to.Channels); n > push.MaxRecipients {
		return to, fmt.Errorf("to names %d recipients, more than %d", n, push.MaxRecipients)
	}
	for i, u := range to.Users {
		if err := u.Check(); err != nil {
			return to, fmt.Errorf("to.users[%d]: %w", i, err)
		}
	}
	for i, c := range to.Channels {
		if err := c.CheckTopic(); err != nil {
			return to, fmt.Errorf("to.channels[%d]: %w", i, err)
		}
	}
	slices.Sort(to.Users)
	slices.Sort(to.Channels)
	to.Users, to.Channels = slices.Compact(to.Users), slices.Compact(to.Channels)
	return to, nil
}

// checkText checks a short text that others will print or compare.
func checkText(name, s string) error {
	if len(s) > push.MaxName {
		return fmt.Errorf("%s is %d bytes long, more than %d", name, len(s), push.MaxName)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not valid UTF-8", name)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("%s holds the control character %q", name, r)
		}
	}
	return nil
}

// compactData returns raw, which is valid JSON or absent, without space between
// its parts: on one line, every number as it was written.
func compactData(raw json.RawMessage) (json.RawMessage, *push.Problem) {
	if len(raw) == 0 {
		return nil, push.NewProblem(push.CodeInvalidMessage, "data is missing; it may be any JSON value, null too")
	}
	var buf bytes.Buffer
	buf.Grow(len(raw))
	if err := json.Compact(&buf, raw); err != nil {
		return nil, push.NewProblem(push.CodeBadJSON, "data is not JSON")
	}
	data := buf.Bytes()
	if len(data) > push.MaxData {
		return nil, push.NewProblem(push.CodeDataTooLarge, "data is %d bytes, more than %d", len(data), push.MaxData)
	}
	if depth(data) > maxDepth {
		return nil, push.NewProblem(push.CodeInvalidMessage, "data nests deeper than %d levels", maxDepth)
	}
	return data, nil
}

// depth returns how many arrays and objects of valid JSON are open at once, at
// most.
func depth(data []byte) int {
	open, deepest, quoted := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			open++
			deepest = max(deepest, open)
		case c == ']' || c == '}':
			open--
		}
	}
	return deepest
}

// parseTTL reads a duration; absent means the default.
func parseTTL(text *string) (time.Duration, error) {
	if text == nil {
		return push.DefaultTTL, nil
	}
	ttl, err := time.ParseDuration(*text)
	if err != nil {
		return 0, errors.New(`ttl must be a duration like "90s" or "72h"`)
	}
	if ttl < minTTL || ttl > push.MaxTTL {
		return 0, fmt.Errorf("ttl must be from %s to %s", minTTL, push.MaxTTL)
	}
	return ttl.Truncate(time.Millisecond), nil
}

// parseDeliverAt reads a time; absent is the zero time.
func parseDeliverAt(text *string, now time.Time) (time.Time, error) {
	if text == nil {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, *text)
	if err != nil {
		return time.Time{}, errors.New(`deliver_at must be a time like "2030-01-31T09:30:00Z"`)
	}
	if at.Sub(now) > maxAhead {
		return time.Time{}, fmt.Errorf("deliver_at lies more than %s ahead", maxAhead)
	}
	return at.UTC().Truncate(time.Millisecond), nil
}
