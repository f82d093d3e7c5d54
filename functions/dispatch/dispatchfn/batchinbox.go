package dispatchfn

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// askInbox asks where the inbox has the messages of asks, and notes it in their
// items. What the inbox has decided must have stood there before the next term, for
// it was judged by the floor of this one: else the error is errEnded, and nothing is
// noted.
func (b *batch) askInbox(ctx context.Context, asks []int) error {
	g, asking := errgroup.WithContext(ctx)
	g.SetLimit(asksAtOnce)
	for from := 0; from < len(asks); {
		message, to := b.places[asks[from]].message, from
		var channels []push.Channel
		for ; to < len(asks) && b.places[asks[to]].message == message; to++ {
			channels = append(channels, b.places[asks[to]].channel)
		}
		part := asks[from:to]
		g.Go(b.h.guard(func() error {
			placed, err := b.h.store.PlacedAt(asking, b.messages[message].ID, channels)
			if err != nil {
				return fmt.Errorf("ask the inbox: %w", err)
			}
			for _, i := range part {
				b.places[i].asked(placed[b.places[i].channel], b)
			}
			return nil
		}))
		from = to
	}
	if err := g.Wait(); err != nil {
		return err
	}
	decided := false
	for _, i := range asks {
		switch p := &b.places[i]; {
		case p.duty == dutyMove:
			b.h.metrics.again.WithLabelValues(againLoss).Inc()
		case p.item.Placed != 0:
			decided = true
		}
	}
	if !decided {
		return nil
	}
	in, err := b.h.reg.InTerm(ctx, b.term)
	if err != nil {
		return fmt.Errorf("ask whether the term lasts: %w", err)
	}
	if in {
		return nil
	}
	for _, i := range asks {
		p := &b.places[i]
		p.duty = dutyWrite
		p.item.Asked, p.item.Placed = false, 0
	}
	return errEnded
}

// asked notes that the inbox has the message at offset, 0 for not at all.
func (p *place) asked(offset push.Offset, b *batch) {
	p.item.Asked = true
	switch {
	case offset == 0:
	case b.passed(offset):
		p.duty = dutyMove
	default:
		p.item.Placed = offset
		p.duty = dutyNone
	}
}

// passed reports whether readers may have passed what the inbox has at offset: what
// it got shortly before Redis lost its memory, and what was not confirmed then, may
// have come to it after the term's beginning. Such a message is placed anew. The floor
// itself is somewhat ahead of the clock where terms follow one another quickly; where
// it is by more than leadMost, the clock was set back, and tells nothing.
func (b *batch) passed(offset push.Offset) bool {
	since := min(b.term.Floor, max(push.OffsetAt(b.h.reg.Now()), b.term.Floor-min(b.term.Floor, push.OffsetSpan(leadMost))))
	return offset <= b.term.Floor && offset+push.OffsetSpan(lossWindow) > since
}

// keep writes the inbox of the places of todo, asks whether the term lasts, and
// returns what has to be appended again.
func (b *batch) keep(ctx context.Context, todo []int) ([]int, error) {
	write := b.due(todo, dutyWrite)
	var taken []int
	if len(write) > 0 {
		var err error
		if taken, err = b.writeInbox(ctx, write); err != nil {
			return nil, err
		}
	}
	move := b.due(todo, dutyMove) // among them what another try has written meanwhile
	if len(move) > 0 {
		if err := b.h.store.MoveInbox(ctx, b.entries(move)); err != nil {
			return nil, fmt.Errorf("move in the inbox: %w", err)
		}
	}
	if len(write)+len(move) == 0 {
		return nil, nil
	}
	in, err := b.h.reg.InTerm(ctx, b.term)
	if err != nil {
		return nil, fmt.Errorf("ask whether the term lasts: %w", err)
	}
	if in {
		return taken, nil
	}
	// Not only what this round wrote: every place of the batch is from a term that
	// has ended, but for those that the inbox had decided in it.
	var lost []int
	for i := range b.places {
		if p := &b.places[i]; p.at.Err == nil && p.item.Placed == 0 {
			p.duty = dutyMove
			p.item.Asked = true
			lost = append(lost, i)
		}
	}
	b.h.metrics.again.WithLabelValues(againTerm).Add(float64(len(lost)))
	return lost, nil
}

// writeInbox writes the places of write and returns those whose offset is
// another message's, to be appended above it.
func (b *batch) writeInbox(ctx context.Context, write []int) (taken []int, err error) {
	placements, err := b.h.store.WriteInbox(ctx, b.entries(write))
	if err != nil {
		return nil, fmt.Errorf("write the inbox: %w", err)
	}
	if len(placements) != len(write) {
		return nil, fmt.Errorf("write the inbox: %d placements of %d entries", len(placements), len(write))
	}
	for n, i := range write {
		p := &b.places[i]
		switch {
		case placements[n].Taken:
			p.item.Asked, p.item.Above = true, p.at.Offset
			taken = append(taken, i)
			b.h.metrics.again.WithLabelValues(againTaken).Inc()
		case placements[n].Offset != p.at.Offset && b.passed(placements[n].Offset):
			p.duty = dutyMove
			b.h.metrics.again.WithLabelValues(againLoss).Inc()
		case placements[n].Offset != p.at.Offset:
			p.duty = dutyNone // it was placed before, and that place stands
			b.h.metrics.repeats.WithLabelValues(repeatInbox).Inc()
		}
	}
	return taken, nil
}

// due returns those of todo that the inbox is owed that for.
func (b *batch) due(todo []int, d duty) []int {
	var due []int
	for _, i := range todo {
		if b.places[i].duty == d {
			due = append(due, i)
		}
	}
	return due
}

func (b *batch) entries(places []int) []store.InboxEntry {
	entries := make([]store.InboxEntry, len(places))
	for n, i := range places {
		p := &b.places[i]
		m := b.messages[p.message]
		entries[n] = store.InboxEntry{
			Channel: p.channel, Offset: p.at.Offset, Message: m.ID, CollapseKey: m.CollapseKey, ExpiresAt: m.ExpiresAt,
		}
	}
	return entries
}
