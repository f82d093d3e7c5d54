package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"pushcluster/pushctl/api"
	"pushcluster/pushctl/show"
	"pushcluster/shared/push"
)

type userCmd struct {
	ID string `arg:"" name:"id" help:"The user's id."`
}

// Run tells a user's connections and devices.
func (c *userCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	answer, err := client.User(ctx, c.ID)
	if err != nil {
		return err
	}
	if s.out.JSON {
		return s.out.Raw(answer.Raw)
	}
	u := answer.Value
	var rows [][]string
	for _, o := range u.Connections {
		rows = append(rows, []string{string(o.Device), string(o.Node), show.Time(o.Since)})
	}
	if err := s.out.Table("no connection is open", []string{"DEVICE", "NODE", "SINCE"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, d := range u.Devices {
		for _, cur := range d.Cursors {
			rows = append(rows, []string{string(d.Device), string(cur.Channel), offset(cur.Received), offset(cur.Acknowledged), show.Time(cur.UpdatedAt)})
		}
	}
	if err := s.out.Linef(""); err != nil {
		return err
	}
	err = s.out.Table("no device is known", []string{"DEVICE", "CHANNEL", "RECEIVED", "ACKNOWLEDGED", "UPDATED"}, rows)
	s.unanswered(u.Unanswered)
	return err
}

// offset tells a place in a channel by when it was given: that says more to
// people than its number.
func offset(o push.Offset) string {
	if o == 0 {
		return ""
	}
	return show.Time(o.Time())
}

// unanswered tells which nodes did not answer, if any.
func (s *session) unanswered(nodes []push.NodeID) {
	if len(nodes) == 0 {
		return
	}
	var names []string
	for _, n := range nodes {
		names = append(names, string(n))
	}
	s.note("pushctl: this is not all: no answer from %s", strings.Join(names, ", "))
}

type kickCmd struct {
	User   string `arg:"" help:"The user's id."`
	Device string `placeholder:"ID" help:"Only the connections of this device."`
}

// Run closes a user's connections.
func (c *kickCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	return s.closed(client.Kick(ctx, c.User, c.Device))
}

// closed tells how many connections an order closed.
func (s *session) closed(answer api.Answer[push.DisconnectAnswer], err error) error {
	if err != nil {
		return err
	}
	s.unanswered(answer.Value.Unanswered)
	if s.out.JSON {
		return s.out.Raw(answer.Raw)
	}
	n := answer.Value.Closed
	if n == 1 {
		return s.out.Linef("1 connection is closed")
	}
	return s.out.Linef("%d connections are closed", n)
}

type revokeCmd struct {
	User    string `arg:"" optional:"" help:"The user whose tokens, issued up to now, are to count no more."`
	TokenID string `name:"jti" placeholder:"ID" help:"One token by its id (its claim jti), in place of a user's."`
	Until   string `placeholder:"TIME" help:"When the last of those tokens ends: RFC 3339, or a duration from now, as 48h; default 30 days."`
}

// Run has tokens count no more.
func (c *revokeCmd) Run(ctx context.Context, s *session) error {
	if (c.User == "") == (c.TokenID == "") {
		return usage("name a user, or a token with --jti")
	}
	until, err := deliverAt(c.Until, s.now())
	if err != nil {
		return usage("--until %q is neither a time like 2030-01-31T09:30:00Z nor a duration like 48h", c.Until)
	}
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	return s.closed(client.Revoke(ctx, api.Revocation{User: c.User, TokenID: c.TokenID, Until: until}))
}

type tokenCmd struct {
	User    string        `arg:"" help:"The user's id."`
	TTL     time.Duration `name:"ttl" placeholder:"DURATION" help:"How long it counts, as 10m or 24h; default 1h, at most 720h."`
	Channel []string      `short:"c" sep:"none" placeholder:"NAME" help:"A topic that the server subscribes the user to; may be repeated."`
	Topic   []string      `short:"t" sep:"none" placeholder:"NAME" help:"A topic that the user may subscribe to, or a prefix that ends in *; may be repeated."`
	Info    string        `placeholder:"JSON" help:"Anything about the user."`
}

// Run prints a new token, and nothing else on stdout.
func (c *tokenCmd) Run(ctx context.Context, s *session) error {
	if c.Info != "" && !json.Valid([]byte(c.Info)) {
		return usage("--info is no JSON")
	}
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	g := api.Grant{User: c.User, Channels: c.Channel, Topics: c.Topic, Info: json.RawMessage(c.Info)}
	if c.TTL != 0 {
		g.TTL = c.TTL.String()
	}
	answer, err := client.Token(ctx, g)
	if err != nil {
		return err
	}
	if s.out.JSON {
		return s.out.Raw(answer.Raw)
	}
	if show.Interactive(s.stderr) {
		s.note("counts until %s", show.Time(answer.Value.ExpiresAt))
	}
	_, err = fmt.Fprintln(s.out.Out, answer.Value.Token)
	return err
}
