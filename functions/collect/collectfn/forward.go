package collectfn

import (
	"context"
	"errors"
	"time"

	"pushcluster/shared/handoff"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// clockSkew is how far the clock here may be ahead of Redis', by which the sweep
// judges what is due; requests between our services allow as much.
const clockSkew = 5 * time.Minute

// widePlaces is how many places in channels a hand-off has at most whose time runs
// out only where Dispatch is not well: it takes about a second for so many. That of
// a wider one may run out by its size, which is no reason to break with all others.
const widePlaces = 10_000

// Why messages go into the outbox.
const (
	reasonScheduled   = "scheduled"   // they have a deliver_at
	reasonUnconfirmed = "unconfirmed" // Dispatch did not confirm them
	reasonBehind      = "behind"      // an earlier message of a channel of theirs is in the outbox
	reasonUnknown     = "unknown"     // it could not be told whether one is
	reasonBreak       = "break"       // Dispatch did not answer a moment ago, so it was not asked
	reasonFailed      = "failed"      // not at all: the outbox did not take them
)

// whyWaits is what the outbox says of messages that were not handed off.
var whyWaits = map[string]string{
	reasonBehind:  "not tried: an earlier message of its channel waits",
	reasonUnknown: "not tried: it was not known whether an earlier message waits",
	reasonBreak:   "not tried: dispatch did not answer a moment ago",
}

// forward hands off what is due and puts the rest into the outbox, and what was
// not confirmed too.
func (h *Handler) forward(ctx context.Context, list []pending, outcomes []outcome) {
	drafts := make([]*draft, len(list))
	for i := range list {
		drafts[i] = list[i].draft
	}
	h.forwardBehind(ctx, list, outcomes, h.lookForBacklog(drafts))
}

// forwardBehind is forward for one who has begun to look for a backlog.
//
// A message must not overtake an earlier one of a channel of its own. If that is
// in the outbox, the message goes behind it; and what follows the message here,
// too. The earlier one was put there before its sender was answered, so a sender
// who waits for answers keeps the order of what it posts.
func (h *Handler) forwardBehind(ctx context.Context, list []pending, outcomes []outcome, g *glance) {
	now := h.now()
	backlog := h.channelsWithBacklog(ctx, list, g)
	var (
		due     []push.Message
		places  []int // of due, in list
		again   bool
		entries = make([]*store.OutboxEntry, len(list))
	)
	wait := func(place, attempts int, reason, why string) {
		h.metrics.outbox.WithLabelValues(reason).Inc()
		m := &list[place].Message
		// Due at once, whatever the sweep's clock says.
		entries[place] = &store.OutboxEntry{Message: m.ID, DueAt: now.Add(-clockSkew), Attempts: attempts, Reason: why, Channels: m.To.List()}
	}
	for i, p := range list {
		if !p.DeliverAt.IsZero() {
			h.metrics.outbox.WithLabelValues(reasonScheduled).Inc()
			e := scheduled(&p.Message, now)
			entries[i] = &e
			continue
		}
		if reason := backlog.holds(&p.Message); reason != "" {
			wait(i, 0, reason, whyWaits[reason])
			continue
		}
		due = append(due, p.Message)
		places = append(places, i)
		again = again || outcomes[p.place].repeat
	}
	if len(due) > 0 && !h.breaker.admits(h.cfg.Now()) {
		for _, i := range places {
			wait(i, 0, reasonBreak, whyWaits[reasonBreak])
		}
		due = nil
	}
	for i, err := range h.handOff(ctx, due, again) {
		if err != nil {
			wait(places[i], 1, reasonUnconfirmed, err.Error())
		}
	}
	h.putOutbox(ctx, list, entries, outcomes)
}

// putOutbox puts into the outbox those of entries, one for each of list, that are
// not nil, in their order.
func (h *Handler) putOutbox(ctx context.Context, list []pending, entries []*store.OutboxEntry, outcomes []outcome) {
	var waiting []store.OutboxEntry
	for _, e := range entries {
		if e != nil {
			waiting = append(waiting, *e)
		}
	}
	if len(waiting) == 0 {
		return
	}
	err := h.store.PutOutbox(ctx, waiting)
	h.outbox.Note(h.log, err)
	if err == nil {
		return
	}
	h.metrics.outbox.WithLabelValues(reasonFailed).Add(float64(len(waiting)))
	for i, e := range entries {
		if e != nil {
			outcomes[list[i].place].problem = push.NewProblem(push.CodeUnavailable, "the message was kept but cannot be delivered now; send it again")
		}
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
	unreachable, timedOut, refused := false, false, false
	for i, err := range errs {
		unreachable = unreachable || errors.Is(err, handoff.ErrUnreachable)
		timedOut = timedOut || errors.Is(err, handoff.ErrTimeout)
		refused = refused || errors.Is(err, handoff.ErrItem) // tells nothing of Dispatch
		if err != nil && first == nil {
			first = err
		}
		if err != nil {
			errs[i] = clipped(err)
		}
	}
	h.dispatch.Note(h.log, first)
	if unreachable || !refused && (!timedOut || placesOf(messages) <= widePlaces) {
		h.breaker.note(h.cfg.Now(), unreachable || timedOut)
	}
	return errs
}

// placesOf returns how many places in channels messages have at most.
func placesOf(messages []push.Message) int {
	places := 0
	for i := range messages {
		places += messages[i].To.AtMost()
	}
	return places
}

// clipped bounds what an error writes into the outbox, in bytes.
func clipped(err error) error {
	const most = 500
	if s := err.Error(); len(s) > most {
		return errors.New(push.Clip(s, most))
	}
	return err
}
