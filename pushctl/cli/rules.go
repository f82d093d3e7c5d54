package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
)

type rulesCmd struct {
	Test rulesTestCmd `cmd:"" help:"Tell what each rule makes of an event, and why not."`
}

type rulesTestCmd struct {
	File   string            `arg:"" help:"A file of sources."`
	Event  string            `arg:"" help:"The body of a webhook (- for stdin): JSON, else it is a text."`
	Source string            `placeholder:"NAME" help:"Only the rules of this source."`
	Header map[string]string `short:"H" mapsep:"none" placeholder:"NAME=VALUE" help:"A header of the webhook; may be repeated."`
	Query  map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"A parameter of its URL; may be repeated."`
	At     string            `placeholder:"TIME" help:"When it is received, RFC 3339; default now."`
}

// What a rule makes of an event, in the words of the API.
const (
	ruleMade    = "made"     // a message
	ruleNoMatch = "no_match" // its when is false
	ruleNobody  = "nobody"   // it matches, and addresses nobody
	ruleFailed  = "failed"
)

// A verdict is what one rule makes of an event.
type verdict struct {
	Source  string       `json:"source"`
	Rule    string       `json:"rule"`
	Result  string       `json:"result"`
	Why     string       `json:"why,omitempty"` // why it sends nothing
	Message *wouldBeSent `json:"message,omitempty"`
}

// A wouldBeSent is the message that a rule makes.
type wouldBeSent struct {
	To          push.Recipients `json:"to"`
	Event       string          `json:"event,omitempty"`
	Data        json.RawMessage `json:"data"`
	TTL         string          `json:"ttl"`
	CollapseKey string          `json:"collapse_key,omitempty"`
}

// Run tells what each rule makes of an event. It fails if a rule does.
func (c *rulesTestCmd) Run(ctx context.Context, s *session) error {
	if c.File == "-" && c.Event == "-" {
		return usage("FILE and EVENT cannot both be stdin")
	}
	set, err := s.loadSources(ctx, c.File, false)
	if err != nil {
		return err
	}
	in, err := c.input(s)
	if err != nil {
		return err
	}
	names := set.Names()
	if c.Source != "" {
		if _, err := set.Source(ctx, c.Source); err != nil {
			return usage("%s has no source %q; there are %s", c.File, c.Source, strings.Join(names, ", "))
		}
		names = []string{c.Source}
	}
	compiler, err := rule.NewCompiler()
	if err != nil {
		return err
	}
	failed := false
	for _, name := range names {
		src, _ := set.Source(ctx, name)
		for _, v := range judge(ctx, compiler, src, in) {
			failed = failed || v.Result == ruleFailed
			if err := s.verdict(v); err != nil {
				return err
			}
		}
	}
	if failed {
		return errTold
	}
	return nil
}

// input returns what rules see of the event.
func (c *rulesTestCmd) input(s *session) (*rule.Input, error) {
	text, err := s.readInput(c.Event)
	if err != nil {
		return nil, err
	}
	in := &rule.Input{Body: decodeBody(text), Headers: make(map[string]string), Query: c.Query, ReceivedAt: s.now().UTC()}
	for name, value := range c.Header {
		in.Headers[strings.ToLower(name)] = value
	}
	if in.Query == nil {
		in.Query = make(map[string]string)
	}
	if c.At != "" {
		if in.ReceivedAt, err = time.Parse(time.RFC3339, c.At); err != nil {
			return nil, usage("--at %q is no time like 2030-01-31T09:30:00Z", c.At)
		}
	}
	return in, nil
}

// decodeBody reads a webhook's body as Collect does where no Content-Type says
// what it is: as JSON, its numbers as they are written, else as a text.
func decodeBody(text []byte) any {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var body any
	if dec.Decode(&body) == nil {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			return body
		}
	}
	return strings.ToValidUTF8(string(text), "\ufffd")
}

// judge tells what each rule of src makes of in.
func judge(ctx context.Context, compiler *rule.Compiler, src *source.Source, in *rule.Input) []verdict {
	seen := *in
	seen.Source = src.Name
	verdicts := make([]verdict, len(src.Rules))
	for i, r := range src.Rules {
		v := verdict{Source: src.Name, Rule: r.Spec().Name}
		m, err := r.Eval(ctx, &seen)
		switch {
		case err != nil:
			v.Result, v.Why = ruleFailed, err.Error()
		case m == nil:
			v.Result, v.Why = ruleNoMatch, compiler.WhyNot(ctx, r, &seen)
		case m.To.IsZero():
			v.Result, v.Why = ruleNobody, "its to gives nobody for this event"
		default:
			v.Result, v.Message = ruleMade, &wouldBeSent{To: m.To, Event: m.Event, Data: m.Data, TTL: ttlOf(m), CollapseKey: m.CollapseKey}
		}
		verdicts[i] = v
	}
	return verdicts
}

func ttlOf(m *rule.Message) string {
	ttl := m.TTL
	if ttl == 0 {
		ttl = push.DefaultTTL
	}
	return ttl.String()
}

// verdict prints one verdict.
func (s *session) verdict(v verdict) error {
	if s.out.JSON {
		return s.out.Value(v)
	}
	if err := s.out.Title(v.Source+"/"+v.Rule, strings.ReplaceAll(v.Result, "_", " "), v.Why); err != nil || v.Message == nil {
		return err
	}
	m := v.Message
	return s.out.Facts([][2]string{
		{"  to", recipients(m.To)}, {"  event", m.Event}, {"  ttl", m.TTL}, {"  collapse_key", m.CollapseKey}, {"  data", string(m.Data)},
	})
}

// recipients tells whom a message is for, on one line.
func recipients(to push.Recipients) string {
	var parts []string
	if to.All {
		parts = append(parts, "all")
	}
	for _, u := range to.Users {
		parts = append(parts, "user "+string(u))
	}
	for _, c := range to.Channels {
		parts = append(parts, "topic "+string(c))
	}
	const most = 20
	if len(parts) > most {
		parts = append(parts[:most], fmt.Sprintf("and %d more", len(parts)-most))
	}
	return strings.Join(parts, ", ")
}
