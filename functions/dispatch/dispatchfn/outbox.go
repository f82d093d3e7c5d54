package dispatchfn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
	"pushcluster/shared/telemetry"
)

const (
	retryFirst = time.Second
	retryMost  = time.Minute
	// sweepTime bounds one look at the outbox and one sweep of the store.
	sweepTime = 20 * time.Second
	// Another sweep may have what this one would go on with: it looks again so
	// often, after so long or up to twice that.
	lookAgain = 3
	lookPause = 25 * time.Millisecond
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
			if err := h.emptyOutbox(ctx); ctx.Err() == nil {
				h.looked(kindOutbox, &h.outbox, err)
			}
		case <-sweep.C:
			if err := h.sweepStore(ctx); ctx.Err() == nil {
				h.looked(kindStore, &h.swept, err)
			}
		}
	}
}

// looked notes what came of one look: each that failed counts, and the log is told
// when that begins and when it ends.
func (h *Handler) looked(kind string, l *telemetry.Lapse, err error) {
	if err != nil {
		h.metrics.sweeps.WithLabelValues(kind).Inc()
	}
	l.Note(h.log, err)
}

func (h *Handler) sweepStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	n, err := h.store.Sweep(ctx, h.reg.Now())
	h.metrics.swept.Add(float64(n))
	return err
}

// lastLook returns until when another look at the outbox may begin that is part of
// work begun at a time: for sweepTime, or for two thirds of what ctx lasts, so that
// the last one has time to end and the sweep of the store some of its own. Else
// Lambda would end the process in the middle of both.
func lastLook(ctx context.Context, began time.Time) time.Time {
	last := began.Add(sweepTime)
	if end, ok := ctx.Deadline(); ok {
		if soon := began.Add(end.Sub(began) / 3 * 2); soon.Before(last) {
			return soon
		}
	}
	return last
}

// emptyOutbox dispatches what is due, until a look finds nothing that it can do,
// or until lastLook, but looks once at least. It looks again whenever something
// went out: as long as an entry waits, what is posted to its channels goes into
// the outbox too, and a busy channel leaves that detour only when nothing of it is
// left.
func (h *Handler) emptyOutbox(ctx context.Context) error {
	worked, waits := false, 0
	last := lastLook(ctx, time.Now())
	for first := true; first || time.Now().Before(last); first = false {
		pass, err := h.sweepOutbox(ctx)
		switch {
		case err != nil:
			return err
		case pass.gone > 0:
			worked, waits = true, 0
		case worked && pass.held > 0 && waits < lookAgain:
			waits++
			if err := pause(ctx, lookPause+rand.N(lookPause)); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// pause waits for d, or until ctx ends, whose error it then returns.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// SweepOutbox claims what is due in the outbox, at most Config.OutboxLimit
// entries of each kind, dispatches it, and confirms each entry, sets it for
// another try, later each time, or parks it. Of a channel nothing goes out while
// something older waits for it: what would overtake is held back, untried. It
// returns how many entries it claimed. Where it cannot keep what became of an
// entry, that stays claimed until the claim ends.
func (h *Handler) SweepOutbox(ctx context.Context) (int, error) {
	pass, err := h.sweepOutbox(ctx)
	return pass.claimed, err
}

// A pass is what one look at the outbox came to.
type pass struct {
	claimed int
	gone    int // entries that are not in the queue any more
	held    int // entries put back untried
}

func (h *Handler) sweepOutbox(ctx context.Context) (pass, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	// This tells Redis' clock, by which things are due; and without Redis there
	// is no use in trying.
	if _, err := h.reg.Term(ctx); err != nil {
		return pass{}, err
	}
	now, began := h.reg.Now(), time.Now()
	limit := int(min(h.claims.Load(), int64(h.cfg.OutboxLimit)))
	entries, err := h.store.ClaimOutbox(ctx, now, now.Add(h.cfg.OutboxClaim), limit)
	if err != nil {
		h.claims.Store(int64(max(limit/4, loadFirst))) // with their channels they may be more than the store hands out in time
		return pass{}, fmt.Errorf("claim: %w", err)
	}
	p := pass{claimed: len(entries)}
	if len(entries) == 0 {
		return p, nil
	}
	if time.Since(began) > h.cfg.OutboxClaim/4 {
		h.claims.Store(int64(max(limit/2, loadFirst)))
	} else {
		h.claims.Store(int64(2 * limit))
	}
	o, err := h.redispatch(ctx, entries, now, began)
	if err != nil {
		return p, err
	}
	p.gone, p.held = len(o.done)+len(o.parked), len(o.held)
	if time.Since(began) >= h.cfg.OutboxClaim {
		o.held = nil // they are free by themselves; another sweep may have them, and have tried them
	}
	return p, h.keepOutcomes(ctx, o)
}

// redispatch dispatches claimed entries and says for each what becomes of it.
func (h *Handler) redispatch(ctx context.Context, entries []store.OutboxEntry, now, began time.Time) (*outcomes, error) {
	l, err := h.loadSome(ctx, entries, began)
	if err != nil {
		return nil, fmt.Errorf("load messages: %w", err)
	}
	// After the claim: whatever has to go out before one of entries was put
	// before it, so it is seen, or gone out.
	ahead, err := h.store.Ahead(ctx, entries)
	if err != nil {
		return nil, fmt.Errorf("look ahead: %w", err)
	}
	o := &outcomes{}
	var due, later []*dueEntry
	for _, e := range entries {
		r, ok := l.records[e.Message]
		switch {
		case !l.asked[e.Message]:
			later = append(later, &dueEntry{OutboxEntry: e})
		case l.unreadable[e.Message] != nil:
			h.park(o, e, fmt.Sprintf("its record cannot be read: %v", l.unreadable[e.Message]), now.Add(push.MaxTTL))
		case !ok:
			h.log.Warn("outbox entry without message", "message", e.Message)
			h.metrics.outbox.WithLabelValues(outboxMissing).Inc()
			o.done = append(o.done, e.Message)
		case r.Expired(now):
			h.metrics.outbox.WithLabelValues(outboxExpired).Inc()
			o.done = append(o.done, e.Message)
		default:
			due = append(due, &dueEntry{OutboxEntry: e, message: &r.Message})
		}
	}
	q := &queue{h: h, outcomes: o, until: make(map[push.Channel]time.Time)}
	q.run(ctx, q.behind(due, ahead))
	for _, e := range later { // nothing of due is behind one of them
		q.holdBack(e)
	}
	return o, nil
}

// outcomes is what becomes of claimed entries.
type outcomes struct {
	done    []push.MessageID
	retries []store.OutboxEntry
	held    []store.OutboxEntry // as they were, but for when they are due
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
	if again := append(o.retries, o.held...); len(again) > 0 {
		if err := h.store.RetryOutbox(ctx, again); err != nil {
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
