package dispatchfn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

const (
	retryFirst = time.Second
	retryMost  = time.Minute
	// sweepTime bounds one look at the outbox and one sweep of the store.
	sweepTime = 20 * time.Second
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
// entries, dispatches it, and confirms each entry or sets it for another try,
// later each time. It returns how many entries it claimed. What it cannot
// confirm or set stays claimed until the claim ends.
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

func (h *Handler) redispatch(ctx context.Context, entries []store.OutboxEntry, now time.Time) error {
	ids := make([]push.MessageID, len(entries))
	for i := range entries {
		ids[i] = entries[i].Message
	}
	records, err := h.store.LoadMessages(ctx, ids)
	if err != nil {
		return fmt.Errorf("load messages: %w", err)
	}
	var done []push.MessageID
	var due []store.OutboxEntry
	var messages []*push.Message
	for _, e := range entries {
		r, ok := records[e.Message]
		switch {
		case !ok:
			h.log.Warn("outbox entry without message", "message", e.Message)
			h.metrics.outbox.WithLabelValues(outboxMissing).Inc()
			done = append(done, e.Message)
		case r.Expired(now):
			h.metrics.outbox.WithLabelValues(outboxExpired).Inc()
			done = append(done, e.Message)
		default:
			due = append(due, e)
			messages = append(messages, &r.Message)
		}
	}
	var retries []store.OutboxEntry
	for i, p := range h.Dispatch(ctx, messages, true) {
		if p == nil {
			h.metrics.outbox.WithLabelValues(outboxConfirmed).Inc()
			done = append(done, due[i].Message)
			continue
		}
		h.metrics.outbox.WithLabelValues(outboxRetry).Inc()
		retries = append(retries, retry(due[i], p, h.reg.Now()))
	}
	if len(done) > 0 {
		if err := h.store.ConfirmOutbox(ctx, done); err != nil {
			return fmt.Errorf("confirm: %w", err)
		}
	}
	if len(retries) > 0 {
		if err := h.store.RetryOutbox(ctx, retries); err != nil {
			return fmt.Errorf("set for another try: %w", err)
		}
	}
	return nil
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
