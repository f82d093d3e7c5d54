package cli

import (
	"context"
	"fmt"

	"pushcluster/pushctl/api"
	"pushcluster/pushctl/show"
	"pushcluster/shared/push"
)

type messageCmd struct {
	ID string `arg:"" name:"id" help:"The message's id, as its acceptance told it."`
}

// Run tells what became of a message, all pages of it.
func (c *messageCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	var first api.MessageState
	var rows [][]string
	for next := ""; ; {
		page, err := client.Message(ctx, c.ID, next)
		if err != nil {
			return err
		}
		if s.out.JSON {
			if err := s.out.Raw(page.Raw); err != nil {
				return err
			}
		}
		if next == "" {
			first = page.Value
		}
		rows = append(rows, stateRows(&page.Value)...)
		if next = page.Value.Next; next == "" {
			break
		}
	}
	if s.out.JSON {
		return nil
	}
	err = s.out.Facts([][2]string{
		{"message", string(first.ID)}, {"state", first.State}, {"event", first.Event},
		{"created", show.Time(first.CreatedAt)}, {"expires", show.Time(first.ExpiresAt)},
	})
	if err != nil {
		return err
	}
	if err := s.out.Linef(""); err != nil {
		return err
	}
	return s.out.Table("it is for nobody", []string{"CHANNEL", "USER", "DEVICE", "STATE", "AT"}, rows)
}

// stateRows returns a row for every device of a page, and one for each recipient
// that has none.
func stateRows(page *api.MessageState) [][]string {
	var rows [][]string
	for _, r := range page.Recipients {
		if len(r.Devices) == 0 {
			rows = append(rows, []string{string(r.Channel), "", "", r.State, ""})
		}
		for _, d := range r.Devices {
			rows = append(rows, []string{string(r.Channel), string(d.User), string(d.Device), d.State, show.Time(d.At)})
		}
	}
	return rows
}

type cancelCmd struct {
	ID string `arg:"" name:"id" help:"The message's id."`
}

// Run takes a scheduled message back.
func (c *cancelCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	return s.changed(client.Cancel(ctx, c.ID))
}

// changed tells what an order made of a message.
func (s *session) changed(answer api.Answer[api.Changed], err error) error {
	if err != nil {
		return err
	}
	if s.out.JSON {
		return s.out.Raw(answer.Raw)
	}
	return s.out.Linef("%s is %s", answer.Value.ID, answer.Value.State)
}

type parkedCmd struct {
	List    parkedListCmd    `cmd:"" default:"1" help:"List what could not be delivered, the longest parked first."`
	Replay  parkedReplayCmd  `cmd:"" help:"Have parked messages tried again, under their ids."`
	Discard parkedDiscardCmd `cmd:"" help:"Give parked messages up."`
}

type parkedListCmd struct{}

// Run lists what is parked.
func (*parkedListCmd) Run(ctx context.Context, s *session) error {
	var rows [][]string
	err := s.eachParked(ctx, func(p api.Item[api.Parked]) error {
		if s.out.JSON {
			return s.out.Raw(p.Raw)
		}
		v := p.Value
		rows = append(rows, []string{string(v.ID), show.Time(v.ParkedAt), fmt.Sprint(v.Attempts), v.Reason})
		return nil
	})
	if err != nil || s.out.JSON {
		return err
	}
	return s.out.Table("nothing is parked", []string{"MESSAGE", "PARKED", "TRIES", "REASON"}, rows)
}

// eachParked calls take with everything that is parked.
func (s *session) eachParked(ctx context.Context, take func(api.Item[api.Parked]) error) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	return eachPage(take, func(next string) ([]api.Item[api.Parked], string, error) {
		page, err := client.Parked(ctx, next)
		return page.Value.Parked, page.Value.Next, err
	})
}

type parkedReplayCmd struct {
	ID  []string `arg:"" optional:"" name:"id" help:"Ids of parked messages."`
	All bool     `help:"Everything that is parked."`
}

// Run has parked messages tried again.
func (c *parkedReplayCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	ids, err := named(c.ID, c.All, func(list func(push.MessageID)) error {
		return s.eachParked(ctx, func(p api.Item[api.Parked]) error {
			list(p.Value.ID)
			return nil
		})
	})
	if err != nil {
		return err
	}
	return s.eachMessage(ctx, ids, client.ReplayParked)
}

type parkedDiscardCmd struct {
	ID []string `arg:"" name:"id" help:"Ids of parked messages."`
}

// Run gives parked messages up.
func (c *parkedDiscardCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	return s.eachMessage(ctx, c.ID, client.DiscardParked)
}

// eachPage calls take with every item of a list that comes in pages: page
// returns one, given where the one before ended, and where it ends itself.
func eachPage[T any](take func(api.Item[T]) error, page func(next string) ([]api.Item[T], string, error)) error {
	for next := ""; ; {
		items, end, err := page(next)
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := take(item); err != nil {
				return err
			}
		}
		if next = end; next == "" {
			return nil
		}
	}
}

// named returns ids or, with all, the ids that every lists: one or the other.
func named(ids []string, all bool, every func(list func(push.MessageID)) error) ([]string, error) {
	if all == (len(ids) > 0) {
		return nil, usage("name the messages, or give --all")
	}
	if !all {
		return ids, nil
	}
	err := every(func(id push.MessageID) { ids = append(ids, string(id)) })
	return ids, err
}

// eachMessage gives an order about each of ids, whatever becomes of the others,
// and tells what it made of each.
func (s *session) eachMessage(ctx context.Context, ids []string, order func(context.Context, string) (api.Answer[api.Changed], error)) error {
	progress := show.NewProgress(s.stderr, "messages", int64(len(ids)), nil)
	defer progress.Clear()
	var failed error
	for i, id := range ids {
		answer, err := order(ctx, id)
		progress.Clear()
		err = s.changed(answer, err)
		switch {
		case ctx.Err() != nil:
			return err
		case err != nil && len(ids) == 1:
			return err
		case err != nil:
			s.note("%s:", id)
			s.tell(ctx, err)
			failed = errTold
		}
		progress.Set(int64(i+1), i+1)
	}
	return failed
}
