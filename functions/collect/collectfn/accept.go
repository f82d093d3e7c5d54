package collectfn

import (
	"context"
	"errors"
	"sync"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// clockSkew is how far the clock here may be ahead of Redis', by which the sweep
// judges what is due; requests between our services allow as much.
const clockSkew = 5 * time.Minute

// An outcome is what became of one draft: the id, or a problem.
type outcome struct {
	id      push.MessageID
	repeat  bool
	first   int // the place of the first draft of this id
	problem *push.Problem
	// nothingKept is set on every outcome if the store took none of them.
	nothingKept bool
}

// accept stores drafts, hands off what is new, what repeats and is due, and puts
// into the outbox what is to wait or was not confirmed. Outcomes come in the
// order of drafts; one without problem is a promise to deliver.
func (h *Handler) accept(ctx context.Context, drafts []*draft) []outcome {
	return h.acceptBeside(ctx, drafts, nil)
}

// acceptBeside is accept with something to do beside the hand-off: beside, if it
// is not nil, is called once the messages are stored, or if there are none, and
// waited for. It is not called if they could not be stored.
func (h *Handler) acceptBeside(ctx context.Context, drafts []*draft, beside func(context.Context)) []outcome {
	outcomes := make([]outcome, len(drafts))
	if len(drafts) == 0 {
		if beside != nil {
			beside(context.WithoutCancel(ctx))
		}
		return outcomes
	}
	records := make([]store.Record, len(drafts))
	for i, d := range drafts {
		records[i] = d.Record
	}
	// A sender that hangs up must not come between the message and its hand-off;
	// store and hand-off have deadlines of their own.
	ctx = context.WithoutCancel(ctx)
	insertions, err := h.store.InsertMessages(ctx, records)
	if err == nil && len(insertions) != len(records) {
		err = errors.New("the store answered for another number of messages")
	}
	h.kept.note(h.log, err)
	if err != nil {
		for i := range outcomes {
			h.metrics.message(push.CodeUnavailable)
			outcomes[i] = outcome{nothingKept: true,
				problem: push.NewProblem(push.CodeUnavailable, "the store is away; nothing was kept, send it again")}
		}
		return outcomes
	}
	list := h.compare(drafts, insertions, outcomes)
	var both sync.WaitGroup
	if beside != nil {
		both.Go(func() { beside(ctx) })
	}
	var untold error
	callbacks := h.callbacksOf(drafts)
	if len(callbacks) > 0 {
		both.Go(func() { untold = h.store.PutCallbacks(ctx, callbacks) })
	}
	h.forward(ctx, list, outcomes)
	both.Wait()
	if len(callbacks) > 0 {
		h.callbacks.note(h.log, untold)
	}
	if untold != nil {
		withoutCallbacks(drafts, outcomes)
	}
	for i := range outcomes {
		if outcomes[i].problem == nil {
			outcomes[i].problem = outcomes[outcomes[i].first].problem
		}
	}
	return outcomes
}

// A pending is a stored message that is to be handed off or to wait.
type pending struct {
	*draft
	place int // of its outcome
}

// compare fills in the outcomes as the store decided and returns what is to be
// sent on, each message once.
func (h *Handler) compare(drafts []*draft, insertions []store.Insertion, outcomes []outcome) []pending {
	var list []pending
	first := make(map[push.MessageID]int, len(drafts))
	for i, d := range drafts {
		in := insertions[i]
		outcomes[i] = outcome{id: d.ID, repeat: in.Repeat, first: i}
		if in.Repeat && in.Fingerprint != d.Fingerprint {
			h.metrics.message(push.CodeIDReused)
			outcomes[i].problem = push.NewProblem(push.CodeIDReused, "the id %q belongs to a message that reads otherwise", d.ID)
			continue
		}
		if in.Repeat {
			h.metrics.messages.WithLabelValues("repeated").Inc()
			d.created(in.CreatedAt.UTC())
		} else {
			h.metrics.messages.WithLabelValues("accepted").Inc()
		}
		if at, ok := first[d.ID]; ok {
			outcomes[i].first = at
			continue
		}
		first[d.ID] = i
		list = append(list, pending{d, i})
	}
	return list
}

// forward hands off what is due and puts the rest into the outbox, and what was
// not confirmed too.
func (h *Handler) forward(ctx context.Context, list []pending, outcomes []outcome) {
	now := h.now()
	var (
		due     []push.Message
		places  []int
		again   bool
		waiting []store.OutboxEntry
		waiters []int
	)
	for _, p := range list {
		if !p.DeliverAt.IsZero() {
			h.metrics.outbox.WithLabelValues("scheduled").Inc()
			waiting = append(waiting, scheduled(&p.Message, now))
			waiters = append(waiters, p.place)
			continue
		}
		due = append(due, p.Message)
		places = append(places, p.place)
		again = again || outcomes[p.place].repeat
	}
	for i, err := range h.handOff(ctx, due, again) {
		if err == nil {
			continue
		}
		h.metrics.outbox.WithLabelValues("unconfirmed").Inc()
		waiting = append(waiting, store.OutboxEntry{
			Message: due[i].ID,
			// Due at once, whatever the sweep's clock says, and apart by a
			// millisecond, so that it takes them in their order.
			DueAt:    now.Add(time.Duration(i)*time.Millisecond - clockSkew),
			Attempts: 1,
			Reason:   err.Error(),
		})
		waiters = append(waiters, places[i])
	}
	if len(waiting) == 0 {
		return
	}
	err := h.store.PutOutbox(ctx, waiting)
	h.outbox.note(h.log, err)
	if err == nil {
		return
	}
	h.metrics.outbox.WithLabelValues("failed").Add(float64(len(waiting)))
	for _, place := range waiters {
		outcomes[place].problem = push.NewProblem(push.CodeUnavailable, "the message was kept but cannot be delivered now; send it again")
	}
}

// scheduled returns the outbox entry of a message with a deliver_at. Such a
// message goes out through the outbox alone, a repeat of it too: there its entry
// knows whether it was cancelled. What is due already may have gone out before,
// and counts as tried, so that it cannot be cancelled any more.
func scheduled(m *push.Message, now time.Time) store.OutboxEntry {
	e := store.OutboxEntry{Message: m.ID, DueAt: m.DeliverAt}
	if !m.DeliverAt.After(now) {
		e.Attempts, e.Reason = 1, "sent again when it was due"
	}
	return e
}

// handOff brings messages to Dispatch and returns one error for each.
func (h *Handler) handOff(ctx context.Context, messages []push.Message, again bool) []error {
	if len(messages) == 0 {
		return nil
	}
	start := time.Now()
	errs := h.handoff.HandOff(ctx, messages, again)
	h.metrics.handoffSeconds.Observe(time.Since(start).Seconds())
	for len(errs) < len(messages) { // what is not spoken of is not confirmed
		errs = append(errs, errors.New("the hand-off does not say what became of it"))
	}
	var first error
	for i, err := range errs {
		if err != nil && first == nil {
			first = err
		}
		if err != nil {
			errs[i] = clipped(err)
		}
	}
	h.dispatch.note(h.log, first)
	return errs
}

// clipped bounds what an error writes into the outbox, in bytes.
func clipped(err error) error {
	const most = 500
	if s := err.Error(); len(s) > most {
		return errors.New(s[:most])
	}
	return err
}
