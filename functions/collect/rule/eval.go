package rule

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"pushcluster/shared/push"
)

// Limits of one evaluation.
const (
	MaxRecipients = 1000 // users and topics of one message, each
	maxTime       = 100 * time.Millisecond
)

// An Input is what a rule's expressions see of one webhook. Nobody may modify it
// while a rule is evaluated.
type Input struct {
	Source     string
	Body       any               // as encoding/json decodes it into an any, with numbers as json.Number
	Headers    map[string]string // names in lower case
	Query      map[string]string
	ReceivedAt time.Time
}

// ResolveName returns a variable. It makes an Input what CEL evaluates in.
func (in *Input) ResolveName(name string) (any, bool) {
	switch name {
	case "body":
		return in.Body, true
	case "headers":
		return in.Headers, true
	case "query":
		return in.Query, true
	case "source":
		return in.Source, true
	case "received_at":
		return in.ReceivedAt, true
	}
	return nil, false
}

// Parent returns nil: there is nothing around an Input.
func (in *Input) Parent() cel.Activation { return nil }

// A Message is what a rule makes of a webhook.
type Message struct {
	To          push.Recipients // may be empty: the rule matched, and nobody is concerned
	Event       string
	Data        json.RawMessage
	TTL         time.Duration // 0: the usual one
	CollapseKey string
}

// Eval returns the message that the rule makes of in, nil if the rule is not for
// it. An error is an [*Error]; then there is no message. It takes at most some
// 100 ms, less if ctx ends.
func (r *Rule) Eval(ctx context.Context, in *Input) (m *Message, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	// CEL's values panic where an expression makes a map of keys that cannot be
	// keys. CEL catches that while it evaluates, but not while its result is read.
	defer func() {
		if broken := recover(); broken != nil {
			m, err = nil, &Error{"data", KindType, "it gives what cannot be read"}
		}
	}()
	if matched, err := r.when.bool(ctx, in, true); err != nil || !matched {
		return nil, err
	}
	m = &Message{TTL: r.spec.TTL}
	users, err := r.users.texts(ctx, in)
	if err != nil {
		return nil, err
	}
	for i, text := range users {
		u := push.UserID(text)
		if err := u.Check(); err != nil {
			return nil, &Error{fmt.Sprintf("to.users[%d]", i), KindResult, err.Error()}
		}
		m.To.Users = append(m.To.Users, u)
	}
	channels, err := r.channels.texts(ctx, in)
	if err != nil {
		return nil, err
	}
	for i, text := range channels {
		c := push.Channel(text)
		if err := c.CheckTopic(); err != nil {
			return nil, &Error{fmt.Sprintf("to.channels[%d]", i), KindResult, err.Error()}
		}
		m.To.Channels = append(m.To.Channels, c)
	}
	if m.To.All, err = r.all.bool(ctx, in, false); err != nil {
		return nil, err
	}
	if m.Event, err = r.event.text(ctx, in); err != nil {
		return nil, err
	}
	if m.CollapseKey, err = r.collapseKey.text(ctx, in); err != nil {
		return nil, err
	}
	if m.Data, err = r.data.json(ctx, in); err != nil {
		return nil, err
	}
	return m, nil
}

// value evaluates e. An optional without a value is nil.
func (e *expression) value(ctx context.Context, in *Input) (ref.Val, error) {
	v, _, err := e.program.ContextEval(ctx, in)
	if err != nil {
		return nil, evalError(e.field, err)
	}
	if o, ok := v.(*types.Optional); ok {
		if !o.HasValue() {
			return nil, nil
		}
		return o.GetValue(), nil
	}
	return v, nil
}

func (e *expression) wrong(kind Kind, format string, args ...any) error {
	return &Error{e.field, kind, fmt.Sprintf(format, args...)}
}

// bool returns a truth; absent is what an empty field or an optional without a
// value stands for.
func (e *expression) bool(ctx context.Context, in *Input, absent bool) (bool, error) {
	if e == nil {
		return absent, nil
	}
	v, err := e.value(ctx, in)
	if err != nil {
		return false, err
	}
	if v == nil {
		return false, nil
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, e.wrong(KindType, "gives %s for this body, but must give bool", v.Type().TypeName())
	}
	return bool(b), nil
}

// text returns a short text without control characters; null and nothing are "".
func (e *expression) text(ctx context.Context, in *Input) (string, error) {
	if e == nil {
		return "", nil
	}
	v, err := e.value(ctx, in)
	if err != nil || v == nil || v == types.NullValue {
		return "", err
	}
	s, ok := v.(types.String)
	if !ok {
		return "", e.wrong(KindType, "gives %s for this body, but must give string; string(x) makes one of a number", v.Type().TypeName())
	}
	if len(s) > push.MaxName {
		return "", e.wrong(KindResult, "gives %d bytes, more than %d", len(s), push.MaxName)
	}
	if !utf8.ValidString(string(s)) {
		return "", e.wrong(KindResult, "gives a text that is not UTF-8")
	}
	for _, c := range string(s) {
		if unicode.IsControl(c) {
			return "", e.wrong(KindResult, "gives a text with the control character %q", c)
		}
	}
	return string(s), nil
}

// texts returns a list of at most MaxRecipients texts; one text is a list of one,
// null and nothing are an empty one.
func (e *expression) texts(ctx context.Context, in *Input) ([]string, error) {
	if e == nil {
		return nil, nil
	}
	v, err := e.value(ctx, in)
	if err != nil || v == nil || v == types.NullValue {
		return nil, err
	}
	if s, ok := v.(types.String); ok {
		return []string{string(s)}, nil
	}
	list, ok := v.(traits.Lister)
	if !ok {
		return nil, e.wrong(KindType, "gives %s for this body, but must give a list of strings; string(x) makes one of a number", v.Type().TypeName())
	}
	size := sizeOf(list)
	if size > MaxRecipients {
		return nil, e.wrong(KindResult, "gives %d recipients, more than %d; a topic reaches any number", size, MaxRecipients)
	}
	texts := make([]string, 0, size)
	for it := list.Iterator(); it.HasNext() == types.True; {
		element := it.Next()
		s, ok := element.(types.String)
		if !ok {
			return nil, e.wrong(KindType, "its element %d is %s, but must be string; .map(x, string(x)) makes strings of numbers", len(texts), element.Type().TypeName())
		}
		texts = append(texts, string(s))
	}
	return texts, nil
}

// json returns anything; an empty field is the whole body.
func (e *expression) json(ctx context.Context, in *Input) (json.RawMessage, error) {
	if e == nil {
		w := writer{}
		if err := w.native(in.Body, 0); err != nil {
			return nil, &Error{"data", KindResult, "the rule gives none, so it would be the body, and " + err.Error()}
		}
		return w.buf, nil
	}
	v, err := e.value(ctx, in)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return json.RawMessage("null"), nil
	}
	data, err := toJSON(v)
	if err != nil {
		return nil, &Error{e.field, KindResult, err.Error()}
	}
	return data, nil
}
