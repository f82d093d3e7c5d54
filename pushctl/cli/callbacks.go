package cli

import (
	"context"
	"fmt"

	"pushcluster/pushctl/api"
	"pushcluster/pushctl/show"
	"pushcluster/shared/push"
)

type callbacksCmd struct {
	List    callbacksListCmd    `cmd:"" default:"1" help:"List which sources could not be told of which messages, the longest parked first."`
	Replay  callbacksReplayCmd  `cmd:"" help:"Have parked callbacks tried again."`
	Discard callbacksDiscardCmd `cmd:"" help:"Give parked callbacks up."`
}

type callbacksListCmd struct{}

// Run lists the callbacks that are parked.
func (*callbacksListCmd) Run(ctx context.Context, s *session) error {
	var rows [][]string
	err := s.eachCallback(ctx, func(item api.Item[api.ParkedCallback]) error {
		if s.out.JSON {
			return s.out.Raw(item.Raw)
		}
		c := item.Value
		rows = append(rows, []string{string(c.ID), c.Source, show.Time(c.FailingSince), show.Time(c.ParkedAt), fmt.Sprint(c.Attempts), c.Reason})
		return nil
	})
	if err != nil || s.out.JSON {
		return err
	}
	return s.out.Table("no callback is parked", []string{"MESSAGE", "SOURCE", "FAILING SINCE", "PARKED", "TRIES", "REASON"}, rows)
}

// eachCallback calls take with every callback that is parked.
func (s *session) eachCallback(ctx context.Context, take func(api.Item[api.ParkedCallback]) error) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	return eachPage(take, func(next string) ([]api.Item[api.ParkedCallback], string, error) {
		page, err := client.Callbacks(ctx, next)
		return page.Value.Callbacks, page.Value.Next, err
	})
}

type callbacksReplayCmd struct {
	ID  []string `arg:"" optional:"" name:"id" help:"Ids of the messages."`
	All bool     `help:"Every callback that is parked."`
}

// Run has parked callbacks tried again.
func (c *callbacksReplayCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	ids, err := named(c.ID, c.All, func(list func(push.MessageID)) error {
		return s.eachCallback(ctx, func(item api.Item[api.ParkedCallback]) error {
			list(item.Value.ID)
			return nil
		})
	})
	if err != nil {
		return err
	}
	return s.eachMessage(ctx, ids, client.ReplayCallback)
}

type callbacksDiscardCmd struct {
	ID []string `arg:"" name:"id" help:"Ids of the messages."`
}

// Run gives parked callbacks up.
func (c *callbacksDiscardCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	return s.eachMessage(ctx, c.ID, client.DiscardCallback)
}
