package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"strings"
	"time"

	"pushcluster/pushctl/api"
	"pushcluster/pushctl/batch"
	"pushcluster/pushctl/show"
	"pushcluster/shared/push"
)

type sendCmd struct {
	Data        string   `arg:"" optional:"" help:"The message's data: JSON, @FILE with JSON, or - for stdin."`
	User        []string `short:"u" sep:"none" placeholder:"ID" help:"A user it is for; may be repeated."`
	Topic       []string `short:"t" sep:"none" placeholder:"NAME" help:"A topic it is for; may be repeated."`
	All         bool     `help:"It is for everybody."`
	Text        *string  `placeholder:"TEXT" help:"Data that is a plain text, in place of DATA."`
	Event       string   `short:"e" placeholder:"NAME" help:"What kind of thing happened."`
	TTL         string   `name:"ttl" placeholder:"DURATION" help:"How long it is worth delivering, as 90s or 72h; default 72h."`
	CollapseKey string   `placeholder:"KEY" help:"Of messages with one key, a device that was away gets the newest."`
	DeliverAt   string   `placeholder:"TIME" help:"When to deliver it: RFC 3339, or a duration from now, as 10m."`
	ID          string   `name:"id" placeholder:"ID" help:"Your own id for it: sent again under it, it stays one message. With --batch it begins the ids of messages that have none."`
	Batch       string   `placeholder:"FILE" help:"Send many: each line of FILE (- for stdin) is a message as POST /v1/messages takes it."`
}

// Help is what send --help tells besides.
func (*sendCmd) Help() string {
	return `Examples:
  pushctl send -u 42 '{"text":"Hello"}'
  pushctl send -t news --text 'Rain tomorrow' --ttl 12h
  pushctl send --all @notice.json --id notice-7
  pushctl send --batch messages.ndjson --id import-3`
}

// Run sends one message, or those of a file.
func (c *sendCmd) Run(ctx context.Context, s *session) error {
	if c.Batch != "" {
		return c.sendBatch(ctx, s)
	}
	if len(c.User)+len(c.Topic) == 0 && !c.All {
		return usage("say whom it is for: --user, --topic or --all")
	}
	m := api.Message{Event: c.Event, TTL: c.TTL, CollapseKey: c.CollapseKey, ID: c.ID}
	m.To.All = c.All
	for _, u := range c.User {
		m.To.Users = append(m.To.Users, push.UserID(u))
	}
	for _, t := range c.Topic {
		m.To.Channels = append(m.To.Channels, push.Channel(t))
	}
	var err error
	if m.Data, err = c.data(s); err != nil {
		return err
	}
	if m.DeliverAt, err = deliverAt(c.DeliverAt, s.now()); err != nil {
		return err
	}
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	answer, err := client.Send(ctx, m)
	if err != nil {
		return err
	}
	if s.out.JSON {
		return s.out.Raw(answer.Raw)
	}
	if api.Repeated(answer.Header) {
		return s.out.Linef("%s was accepted before", answer.Value.ID)
	}
	return s.out.Linef("%s is accepted", answer.Value.ID)
}

// data returns the message's data from wherever it is.
func (c *sendCmd) data(s *session) (json.RawMessage, error) {
	switch {
	case c.Text != nil && c.Data != "":
		return nil, usage("DATA and --text are both given")
	case c.Text != nil:
		return show.Encode(*c.Text)
	case c.Data == "":
		return nil, usage("there is no data: give JSON, @FILE, - for stdin, or --text")
	}
	text, from := []byte(c.Data), "DATA"
	if path, ok := strings.CutPrefix(c.Data, "@"); ok || c.Data == "-" {
		if !ok {
			path = "-"
		}
		var err error
		if text, err = s.readInput(path); err != nil {
			return nil, err
		}
		from = path
	}
	if !json.Valid(text) {
		return nil, usage("%s is no JSON; a plain text goes with --text, or in quotes of its own: '\"text\"'", from)
	}
	return text, nil
}

// deliverAt returns the time that text says, as the API takes it.
func deliverAt(text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if d, err := time.ParseDuration(strings.TrimPrefix(text, "+")); err == nil {
		return now.Add(d).UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano), nil
	}
	if _, err := time.Parse(time.RFC3339, text); err != nil {
		return "", usage("--deliver-at %q is neither a time like 2030-01-31T09:30:00Z nor a duration like 10m", text)
	}
	return text, nil
}

// sendBatch sends what a file holds.
func (c *sendCmd) sendBatch(ctx context.Context, s *session) error {
	if c.Data != "" || c.Text != nil || len(c.User)+len(c.Topic) > 0 || c.All || c.Event+c.TTL+c.CollapseKey+c.DeliverAt != "" {
		return usage("with --batch each line says all of its message; only --id goes with it")
	}
	if len(c.ID) > batch.MaxKey {
		return usage("--id is longer than %d bytes, which leaves no room for the line's number", batch.MaxKey)
	}
	key := c.ID
	if key == "" {
		key = "pushctl-" + rand.Text()[:16]
	}
	in, size := s.stdin, int64(0)
	if c.Batch != "-" {
		file, err := os.Open(c.Batch)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	if file, ok := in.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
	}
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	b := &batchRun{s: s, progress: show.NewProgress(s.stderr, "messages", size, nil)}
	return b.run(ctx, in, client, key)
}

// A batchRun counts and tells what became of the lines of a file.
type batchRun struct {
	s        *session
	progress *show.Progress

	accepted, refused int
	failed            error // of writing what became of a line
}

func (b *batchRun) run(ctx context.Context, in io.Reader, to batch.Sender, key string) error {
	err := batch.Run(ctx, in, to, batch.Config{Key: key, Told: b.told, Moved: func(bytes int64) {
		b.progress.Set(bytes, b.accepted+b.refused)
	}})
	b.progress.Clear()
	if err == nil {
		err = b.failed
	}
	if !b.s.out.JSON {
		err = firstError(err, b.s.out.Linef("%d accepted, %d refused", b.accepted, b.refused))
	}
	if err != nil {
		b.s.note("pushctl: what was accepted stays so; send all of it again with --id %s, and each message stays one message", key)
		return err
	}
	if b.refused > 0 {
		return errTold
	}
	return nil
}

// told tells what became of one line: with --json all of them, else those that
// were refused.
func (b *batchRun) told(o batch.Outcome) {
	if o.Code == "" {
		b.accepted++
	} else {
		b.refused++
	}
	var err error
	switch {
	case b.s.out.JSON:
		err = b.s.out.Value(o)
	case o.Code != "":
		b.progress.Clear()
		b.s.note("line %d: %s: %s", o.Line, o.Code, o.Detail)
	}
	b.failed = firstError(b.failed, err)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
