package dispatchfn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

const (
	retryFirst = time.Second
	retryMost  = time.Minute
	// aloneAfter is how often an entry may fail together with others; aloneAtOnce
	// is how many that did are dispatched side by side.
	aloneAfter  = 3
	aloneAtOnce = 8
	// sweepTime bounds one look at the outbox and one sweep of the store.
	sweepTime = 20 * time.Second
	keepTime  = 5 * time.Second // to keep what became of entries
)

// Run looks at the outbox at each beat, and now and then sweeps the store, until
// ctx ends; then it returns ctx's error. Several processes may run it at once.
func (h *Handler) Run(ctx context.Context) error {
	beat := time.NewTicker(h.cfg.OutboxEvery)
	defer beat.Stop()
	sweep := time.NewTicker(h.cfg.SweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			if err := h.emptyOutbox(ctx); err != nil && ctx.Err() == nil {
				h.metrics.sweeps.WithLabelValues("outbox").Inc()
				h.log.Warn("outbox not worked through", "err", err)
			}
		case <-sweep.C:
			if err := h.sweepStore(ctx); err != nil && ctx.Err() == nil {
				h.metrics.sweeps.WithLabelValues("store").Inc()
				h.log.Warn("store not swept", "err", err)
			}
		}
	}
}

func (h *Handler) sweepStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	n, err := h.store.Sweep(ctx, h.reg.Now())
	h.metrics.swept.Add(float64(n))
	return err
}

// emptyOutbox dispatches what is due, until nothing is.
func (h *Handler) emptyOutbox(ctx context.Context) error {
	for {
		n, err := h.SweepOutbox(ctx)
		if err != nil || n < h.cfg.OutboxLimit {
			return err
		}
	}
}

// SweepOutbox claims what is due in the outbox, at most Config.OutboxLimit
// entries, dispatches it, and confirms each entry, sets it for another try,
// later each time, or parks it. It returns how many entries it claimed. Where it
// cannot keep what became of an entry, that stays claimed until the claim ends.
func (h *Handler) SweepOutbox(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	// This tells Redis' clock, by which things are due; and without Redis there
	// is no use in trying.
	if _, err := h.reg.Term(ctx); err != nil {
		return 0, err
	}
	now := h.reg.Now()
	entries, err := h.store.ClaimOutbox(ctx, now, now.Add(h.cfg.OutboxClaim), h.cfg.OutboxLimit)
	if err != nil {
		return 0, fmt.Errorf("claim: %w", err)
	}
	if len(entries) == 0 {
		return 0, nil
	}
	return len(entries), h.redispatch(ctx, entries, now)
}

// redispatch dispatches claimed entries and says for each what becomes of it.
func (h *Handler) redispatch(ctx context.Context, entries []store.OutboxEntry, now time.Time) error {
	records, unreadable, err := h.load(ctx, entries)
	if err != nil {
		return fmt.Errorf("load messages: %w", err)
	}
	var o outcomes
	var due []dueEntry
	for _, e := range entries {
		r, ok := records[e.Message]
		switch {
		case unreadable[e.Message] != nil:
			h.park(&o, e, fmt.Sprintf("its record cannot be read: %v", unreadable[e.Message]), now.Add(push.MaxTTL))
		case !ok:
			h.log.Warn("outbox entry without message", "message", e.Message)
			h.metrics.outbox.WithLabelValues(outboxMissing).Inc()
			o.done = append(o.done, e.Message)
		case r.Expired(now):
			h.metrics.outbox.WithLabelValues(outboxExpired).Inc()
			o.done = append(o.done, e.Message)
		default:
			due = append(due, dueEntry{e, &r.Message})
		}
	}
	for i, p := range h.dispatchDue(ctx, due) {
		e := due[i]
		switch {
		case p == nil:
			h.metrics.outbox.WithLabelValues(outboxConfirmed).Inc()
			o.done = append(o.done, e.Message)
		case h.hopeless(e.OutboxEntry, p):
			h.park(&o, e.OutboxEntry, p.Error(), e.message.ExpiresAt)
		default:
			h.metrics.outbox.WithLabelValues(outboxRetry).Inc()
			o.retries = append(o.retries, retry(e.OutboxEntry, p, h.reg.Now()))
		}
	}
	return h.keepOutcomes(ctx, &o)
}

// A dueEntry is an entry of the outbox with its message.
type dueEntry struct {
	store.OutboxEntry
	message *push.Message
}

// outcomes is what becomes of claimed entries.
type outcomes struct {
	done    []push.MessageID
	retries []store.OutboxEntry
	parked  []store.ParkedEntry
}

// keepOutcomes tells the store, also when the time for the look is over: what
// became of the entries stays true.
func (h *Handler) keepOutcomes(ctx context.Context, o *outcomes) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	if len(o.done) > 0 {
		if err := h.store.ConfirmOutbox(ctx, o.done); err != nil {
			return fmt.Errorf("confirm: %w", err)
		}
	}
	if len(o.retries) > 0 {
		if err := h.store.RetryOutbox(ctx, o.retries); err != nil {
			return fmt.Errorf("set for another try: %w", err)
		}
	}
	if len(o.parked) > 0 {
		if err := h.store.ParkOutbox(ctx, o.parked); err != nil {
			return fmt.Errorf("park: %w", err)
		}
	}
	return nil
}

// park adds e to what is parked, until its message is forgotten.
func (h *Handler) park(o *outcomes, e store.OutboxEntry, reason string, expires time.Time) {
	h.metrics.outbox.WithLabelValues(outboxParked).Inc()
	h.log.Error("message parked", "message", e.Message, "attempts", e.Attempts+1, "reason", reason)
	o.parked = append(o.parked, store.ParkedEntry{
		Message: e.Message, Attempts: e.Attempts + 1, Reason: reason, At: h.reg.Now(), Until: expires.Add(push.RepeatWindow),
	})
}

// hopeless reports whether another try of e, which just failed for p, would
// come to the same.
func (h *Handler) hopeless(e store.OutboxEntry, p *push.Problem) bool {
	switch p.Code {
	case push.CodeInvalidMessage, push.CodeDataTooLarge:
		return true
	}
	tries := e.Attempts + 1
	othersPass := h.reg.Now().Sub(time.Unix(0, h.confirmed.Load())) < retryMost
	return tries >= h.cfg.ParkAtLast || tries >= h.cfg.ParkAfter && othersPass
}

// load returns the records of entries. If they cannot be read together although
// the store answers, each is read alone, and those that are at fault come with
// their error.
func (h *Handler) load(ctx context.Context, entries []store.OutboxEntry) (map[push.MessageID]store.Record, map[push.MessageID]error, error) {
	ids := make([]push.MessageID, len(entries))
	for i := range entries {
		ids[i] = entries[i].Message
	}
	records, err := h.store.LoadMessages(ctx, ids)
	if err == nil || errors.Is(err, store.ErrUnavailable) {
		return records, nil, err
	}
	records = make(map[push.MessageID]store.Record, len(ids))
	unreadable := make(map[push.MessageID]error)
	for _, id := range ids {
		one, err := h.store.LoadMessages(ctx, []push.MessageID{id})
		if errors.Is(err, store.ErrUnavailable) {
			return nil, nil, err
		}
		if err != nil {
			unreadable[id] = err
		}
		maps.Copy(records, one)
	}
	return records, unreadable, nil
}

// dispatchDue dispatches entries and returns a problem for each that is not
// confirmed. Messages fail together with what they are dispatched with, so those
// that have failed before go alone: none is given up for another's sake.
func (h *Handler) dispatchDue(ctx context.Context, due []dueEntry) []*push.Problem {
	problems := make([]*push.Problem, len(due))
	var together []int
	var g errgroup.Group
	g.SetLimit(aloneAtOnce)
	for i := range due {
		if due[i].Attempts < aloneAfter {
			together = append(together, i)
			continue
		}
		g.Go(func() error {
			problems[i] = h.Dispatch(ctx, []*push.Message{due[i].message}, true)[0]
			return nil
		})
	}
	if len(together) > 0 {
		messages := make([]*push.Message, len(together))
		for n, i := range together {
			messages[n] = due[i].message
		}
		for n, p := range h.Dispatch(ctx, messages, true) {
			problems[together[n]] = p
		}
	}
	_ = g.Wait() // none of them returns an error
	return problems
}

// retry returns e set for another try: after a second, then twice as long each
// time up to a minute, half of it by chance.
func retry(e store.OutboxEntry, why *push.Problem, now time.Time) store.OutboxEntry {
	wait := retryFirst << min(max(e.Attempts, 0), 10)
	wait = min(wait, retryMost)
	e.DueAt = now.Add(wait/2 + rand.N(wait/2))
	e.Attempts++
	e.Reason = why.Error()
	return e
}
