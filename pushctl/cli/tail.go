package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"pushcluster/pushctl/api"
	"pushcluster/pushctl/follow"
	"pushcluster/shared/push"
)

type tailCmd struct {
	User     string        `arg:"" optional:"" help:"The user's id; not needed with --token."`
	Token    string        `env:"PUSHCLUSTER_TOKEN" placeholder:"TOKEN" help:"A connection token, in place of one that Auth mints."`
	Device   string        `placeholder:"ID" help:"Be this device: what it lacks comes first, and what comes counts as received by it. Without: from now on, and nothing is recorded."`
	Ack      bool          `help:"Acknowledge each message that was printed. Needs --device. Without, what came within the last second before the end may come again."`
	Channels []string      `short:"t" name:"topic" aliases:"channels" placeholder:"NAME,…" help:"Topics to subscribe to besides the user's own channel and all; may be repeated."`
	Count    int           `short:"n" placeholder:"N" help:"End after N messages."`
	For      time.Duration `placeholder:"DURATION" help:"End after this time; with --count it is a failure if the messages did not come."`
}

// Help is what tail --help tells besides.
func (*tailCmd) Help() string {
	return `Examples:
  pushctl tail 42
  pushctl tail 42 --topic public:news --json
  pushctl tail 42 --device laptop --ack --count 1 --for 10s`
}

// tokenTime is how long a token for tail counts; a new one is minted then.
const tokenTime = time.Hour

// Run prints messages until an interrupt, --count or --for.
func (c *tailCmd) Run(ctx context.Context, s *session) error {
	switch {
	case c.User == "" && c.Token == "":
		return usage("name a user, or give --token")
	case c.Count < 0 || c.For < 0:
		return usage("--count and --for must be more than 0")
	}
	if c.Ack && c.Device == "" {
		return usage("--ack needs --device: it is devices that acknowledge")
	}
	if err := push.Device(c.Device).Check(); err != nil {
		return usage("%v", err)
	}
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	if s.Node == "" {
		return usage("it is not known where a push node is: set NODE_URL or give --node")
	}
	if _, err := follow.Address(s.Node); err != nil {
		return usage("%v", err)
	}
	limited := ctx
	if c.For > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	seen := 0
	err = follow.Run(limited, follow.Config{
		Node: s.Node, Device: c.Device, Ack: c.Ack, Topics: c.Channels,
		Token: func(ctx context.Context) (string, error) { return c.token(ctx, client) },
	}, func(m follow.Message) error {
		if err := s.printMessage(m); err != nil {
			return err
		}
		if seen++; seen == c.Count {
			return follow.ErrEnough
		}
		return nil
	}, func(what string) { s.note("%s", what) })
	switch {
	case errors.Is(err, follow.ErrEnough) || ctx.Err() != nil:
		return nil
	case err == nil && c.Count > 0:
		s.note("pushctl: %d of %d messages came within %s", seen, c.Count, c.For)
		return errTold
	}
	return err
}

// token returns a token that counts for a while.
func (c *tailCmd) token(ctx context.Context, client *api.Client) (string, error) {
	if c.Token != "" {
		return c.Token, nil
	}
	g := api.Grant{User: c.User, TTL: tokenTime.String()}
	for _, topic := range c.Channels {
		if !strings.HasPrefix(topic, "public:") { // anybody may subscribe to those
			g.Topics = append(g.Topics, topic)
		}
	}
	answer, err := client.Token(ctx, g)
	return answer.Value.Token, err
}

// printMessage prints one message on a line.
func (s *session) printMessage(m follow.Message) error {
	if s.out.JSON {
		return s.out.Value(m)
	}
	event := m.Event
	if event == "" {
		event = "–"
	}
	return s.out.Linef("%s  %s  %s  %s  %s", m.At, m.Channel, event, m.ID, m.Data)
}
