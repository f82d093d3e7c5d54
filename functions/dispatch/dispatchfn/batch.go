package dispatchfn

import (
	"cmp"
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
)

const (
	// rounds bounds how often a batch is appended again.
	rounds = 5
	// asksAtOnce bounds the questions to the inbox under way for one batch.
	asksAtOnce = 8
	// lossWindow is how long before a term's end a message was placed that may
	// have been under way at the loss of Redis' memory.
	lossWindow = 30 * time.Second
	// leadMost is how far ahead of the clock terms that follow one another quickly
	// bring the floor at most.
	leadMost = time.Minute
)

// errUnsettled means that the term changed, or offsets were taken, each time.
var errUnsettled = errors.New("places do not settle")

// errEnded means that the term ended while the inbox was asked.
var errEnded = errors.New("the term ended meanwhile")

// errBehind means that a message before this one in its channel could not be
// appended, so that this one was not either.
var errBehind = errors.New("not appended: a message before it was not")

// A duty is what the inbox is owed for a place.
type duty uint8

const (
	dutyWrite duty = iota // it does not have the message, for all we know
	dutyMove              // it has the message where readers may have passed it
	dutyNone              // it has decided, or the place failed
)

// A place is one message's place in one channel.
type place struct {
	message int // index in the batch
	channel push.Channel
	duty    duty
	item    registry.Item // as it was last appended
	at      registry.AppendedItem
}

// A batch is a bounded run of messages that are dispatched together. One
// goroutine owns it; those it starts read places and write only what is theirs.
type batch struct {
	h        *Handler
	again    bool
	messages []*push.Message
	problems []*push.Problem // by message; nil is confirmed
	places   []place
	term     push.Term // that the places were taken in
	// failed has the channels where a message of the same request has failed, in
	// this or an earlier batch.
	failed channelSet
	judged bool // problems are final
	// refused is the first error of a log that did not take a message which would
	// have been confirmed; set by judge.
	refused error

	calls    []*call // whose messages these are; none: one request's
	appended func()  // to be called once places were taken; nil: it was, or need not be
}

// take makes places for the first of messages, at least one, until the batch is
// full, and returns how many messages it took.
func (b *batch) take(messages []*push.Message) int {
	now := b.h.reg.Now()
	n := min(len(messages), b.h.cfg.BatchItems)
	b.messages, b.problems, b.places = make([]*push.Message, 0, n), make([]*push.Problem, 0, n), make([]place, 0, n)
	for i, m := range messages {
		channels := m.To.List()
		if i > 0 && len(b.places)+len(channels) > b.h.cfg.BatchItems {
			break
		}
		b.messages = append(b.messages, m)
		p := check(m, channels)
		b.problems = append(b.problems, p)
		switch {
		case p != nil:
			b.h.metrics.messages.WithLabelValues(outcomeInvalid).Inc()
			continue
		case m.Expired(now):
			b.h.metrics.messages.WithLabelValues(outcomeExpired).Inc()
			continue
		case b.failed.hasAny(channels):
			b.h.metrics.messages.WithLabelValues(outcomeFailed).Inc()
			b.failed.add(channels)
			b.problems[i] = push.NewProblem(push.CodeUnavailable, "an earlier message of its channel failed; hand it off again")
			continue
		}
		for _, c := range channels {
			b.places = append(b.places, place{message: i, channel: c})
		}
	}
	return len(b.messages)
}

// check returns what is wrong with a message that nobody could dispatch.
func check(m *push.Message, channels []push.Channel) *push.Problem {
	switch {
	case m.ID == "" || len(m.ID) > push.MaxMessageID:
		return push.NewProblem(push.CodeInvalidMessage, "the message has no id of 1 to %d bytes", push.MaxMessageID)
	case len(channels) == 0:
		return push.NewProblem(push.CodeInvalidMessage, "the message is for nobody")
	case len(m.Data) == 0:
		return push.NewProblem(push.CodeInvalidMessage, "the message has no data")
	case len(m.Data) > push.MaxData:
		return push.NewProblem(push.CodeDataTooLarge, "the data is over its limit of %d bytes", push.MaxData)
	}
	for _, c := range channels {
		if err := c.Check(); err != nil {
			return push.NewProblem(push.CodeInvalidMessage, "%v", err)
		}
	}
	return nil
}

// run dispatches the batch and sets problems. It reports whether what comes
// after the batch may go on without overtaking it.
func (b *batch) run(ctx context.Context) bool {
	if len(b.places) == 0 {
		return true
	}
	err := b.settle(ctx)
	if err != nil {
		b.failAll(push.NewProblem(push.CodeUnavailable, "the message could not be placed; hand it off again"))
	}
	b.judge()
	b.h.placed.Note(b.h.log, cmp.Or(err, b.refused))
	return err == nil
}

// judge sets the problems of messages that a log did not take, and counts the
// outcomes, once.
func (b *batch) judge() {
	if b.judged {
		return
	}
	b.judged = true
	for i := range b.places {
		p := &b.places[i]
		if p.at.Err == nil {
			continue
		}
		if b.failed != nil {
			b.failed[p.channel] = true
		}
		if b.problems[p.message] == nil {
			b.refused = cmp.Or(b.refused, p.at.Err)
			b.problems[p.message] = push.NewProblem(push.CodeUnavailable, "a channel's log could not be written; hand it off again")
		}
	}
	b.count()
}

// count counts the outcome of every message that had places.
func (b *batch) count() {
	last, confirmed, failed := -1, 0, 0
	for i := range b.places {
		if n := b.places[i].message; n != last {
			last = n
			if b.problems[n] != nil {
				failed++
			} else {
				confirmed++
			}
		}
	}
	if confirmed > 0 {
		b.h.confirmed.Store(b.h.reg.Now().UnixNano())
		b.h.metrics.confirmed.Add(float64(confirmed))
	}
	if failed > 0 {
		b.h.metrics.messages.WithLabelValues(outcomeFailed).Add(float64(failed))
	}
}

// failAll sets the problem of every message that has places and none yet.
func (b *batch) failAll(p *push.Problem) {
	for i := range b.places {
		if n := b.places[i].message; b.problems[n] == nil {
			b.problems[n] = p
		}
	}
}

// settle appends the batch, writes the inbox and pushes, again and again until
// everything stands in the term in force.
func (b *batch) settle(ctx context.Context) error {
	todo := make([]int, len(b.places))
	for i := range todo {
		todo[i] = i
		b.places[i].item = registry.Item{Channel: b.places[i].channel, Message: b.messages[b.places[i].message], Again: b.again}
	}
	for range rounds {
		if err := b.append(ctx, todo); errors.Is(err, errEnded) {
			continue
		} else if err != nil {
			return err
		}
		next, err := b.keepAndPush(ctx, todo)
		if err != nil {
			return err
		}
		if len(next) == 0 {
			return nil
		}
		todo = next
	}
	return errUnsettled
}

// keepAndPush writes the inbox of what was appended and pushes it, side by side,
// and returns what has to be appended again. Nothing of it runs on, even if it
// panics.
func (b *batch) keepAndPush(ctx context.Context, todo []int) (next []int, err error) {
	parcels := b.parcels(todo)
	b.expect(parcels)
	var g errgroup.Group // a store that fails does not cut off the pushes
	defer func() { _ = g.Wait() }()
	g.Go(b.h.guard(func() (err error) {
		if next, err = b.keep(ctx, todo); err == nil && len(next) == 0 {
			b.kept()
		}
		return err
	}))
	if nodes := b.h.reached.in(b.term, time.Now()); len(nodes) > 0 {
		g.Go(b.h.guard(func() error {
			b.h.rouse(ctx, nodes)
			return nil
		}))
	}
	b.push(ctx, parcels)
	err = g.Wait()
	return next, err
}

// append takes the places of todo, asking the inbox first where that is needed.
func (b *batch) append(ctx context.Context, todo []int) error {
	var asks []int
	first, err := b.appendItems(ctx, todo)
	if err != nil {
		return err
	}
	b.term = first.Term
	var refused channelSet
	for _, i := range todo {
		p := &b.places[i]
		switch {
		case p.at.Err != nil:
			if refused == nil {
				refused = make(channelSet)
			}
			refused[p.channel] = true
		case p.at.Ask && refused[p.channel]:
			p.at = registry.AppendedItem{Err: errBehind}
		case p.at.Ask:
			asks = append(asks, i)
		}
	}
	if len(asks) > 0 {
		if err := b.askInbox(ctx, asks); err != nil {
			return err
		}
		// Should the term have changed in between, the look at the first one
		// after the inbox is written finds that.
		if _, err := b.appendItems(ctx, asks); err != nil {
			return err
		}
	}
	for _, i := range todo {
		if p := &b.places[i]; p.at.Err != nil {
			p.duty = dutyNone
		} else if p.at.Repeat {
			by := repeatLog
			if p.duty == dutyNone {
				by = repeatInbox
			}
			b.h.metrics.repeats.WithLabelValues(by).Inc()
		}
	}
	return nil
}

func (b *batch) appendItems(ctx context.Context, todo []int) (registry.Appended, error) {
	items := make([]registry.Item, len(todo))
	for n, i := range todo {
		items[n] = b.places[i].item
	}
	a, err := b.h.reg.Append(ctx, items)
	if b.appended != nil {
		b.appended()
	}
	if err != nil {
		return registry.Appended{}, err
	}
	for n, i := range todo {
		b.places[i].at = a.Items[n]
	}
	return a, nil
}
