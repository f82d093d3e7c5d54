package callback

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

const (
	pageDevices = 1000
	maxPages    = 10  // of the devices of one recipient that one look reads
	asksAtOnce  = 8   // recipients of one message
	mostReason  = 500 // bytes of a reason that are kept

	maxFailing = 2 * source.MaxStored // sources that are noted as failing, give or take those that failed within RetryMost
)

// look finds out how far m has come, tells target what is new, and sets what is
// to become of c. An error means that the store could not be asked; c then stays
// as it is.
func (s *Sweeper) look(ctx context.Context, target *source.Callback, c *store.Callback, m *push.Message) error {
	left, err := decode(c.Progress, m)
	if err != nil {
		s.park(c, err.Error())
		return nil
	}
	now := s.cfg.Now()
	reaches, ended, err := s.ask(ctx, target, m, left, now)
	if err != nil {
		return err
	}
	var rest []*recipient
	var failed error
	for i, r := range left {
		list, last := happened(target, m, r, reaches[i], ended, now)
		if failed == nil {
			failed = s.tell(ctx, target, c, m, list)
		}
		if failed != nil || !last {
			rest = append(rest, r)
		}
	}
	c.Progress = encode(rest)
	switch {
	case failed != nil && ctx.Err() != nil: // our own time was over, which says nothing of the receiver
		c.DueAt = now
	case failed != nil:
		s.failed(c, c.Source, failed)
	case len(rest) == 0:
		c.State, c.Attempts, c.FailingSince, c.Reason = store.CallbackEnded, 0, time.Time{}, ""
	default:
		c.DueAt, c.Attempts, c.FailingSince, c.Reason = nextLook(m, now), 0, time.Time{}, ""
	}
	return nil
}

// ask returns how far m has come with each of left, whose offsets it fills in,
// and what m is if its time is over.
func (s *Sweeper) ask(ctx context.Context, target *source.Callback, m *push.Message, left []*recipient, now time.Time) ([]reach, string, error) {
	ended := "expired"
	if m.Expired(now) {
		outbox, err := s.store.LoadOutbox(ctx, []push.MessageID{m.ID})
		if err != nil {
			return nil, "", err
		}
		if o, ok := outbox[m.ID]; ok && o.State == store.Parked {
			ended = "parked"
		} else if ok && o.State == store.Cancelled {
			ended = "cancelled"
		}
	}
	channels := make([]push.Channel, len(left))
	for i, r := range left {
		channels[i] = r.Channel
	}
	// A place may move, and it goes with its message's time: the last one counts.
	places, err := s.store.Places(ctx, m.ID, channels)
	if err != nil {
		return nil, "", err
	}
	reaches := make([]reach, len(left))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(asksAtOnce)
	for i, r := range left {
		if place, ok := places[r.Channel]; ok {
			r.Offset = place.Offset
			r.Superseded = r.Superseded || place.Superseded
		}
		if r.Offset == 0 {
			continue
		}
		g.Go(func() error { return s.devices(ctx, target, r, &reaches[i]) })
	}
	return reaches, ended, g.Wait()
}

// devices reads the devices of r until it is known how far its message has come.
func (s *Sweeper) devices(ctx context.Context, target *source.Callback, r *recipient, how *reach) error {
	q := store.DevicesQuery{Channel: r.Channel, Offset: r.Offset, Limit: pageDevices}
	for range maxPages {
		list, err := s.store.ListDevices(ctx, q)
		if err != nil {
			return err
		}
		for i := range list {
			how.note(&list[i], r.Offset)
		}
		if len(list) < pageDevices || how.acknowledged != nil || how.received != nil && !target.Wants(source.EventAcknowledged) {
			return nil
		}
		q.AfterUser, q.AfterDevice = list[len(list)-1].User, list[len(list)-1].Device
	}
	return nil
}

// errAlone means that the source is left alone for now, because it failed a
// moment ago.
var errAlone = errors.New("the receiver failed a moment ago")

// tell posts what has happened, in its order, and notes in the recipients what
// was told. It stops at the first event that the receiver does not take.
func (s *Sweeper) tell(ctx context.Context, target *source.Callback, c *store.Callback, m *push.Message, list []happening) error {
	for i := range list {
		h := &list[i]
		if s.leftAlone(c.Source) {
			return errAlone
		}
		text, err := bodyOf(h, c.Source, m, s.cfg.Now())
		if err != nil {
			return err
		}
		begun := time.Now()
		err = s.poster.Post(ctx, target, eventID(m.ID, h.of.Channel, h.name), text)
		s.metrics.seconds.Observe(time.Since(begun).Seconds())
		if err != nil {
			if ctx.Err() == nil {
				s.metrics.callback(c.Source, outcomeFailed)
			}
			return err
		}
		s.metrics.callback(c.Source, outcomeTold)
		s.works(c.Source)
		h.of.Told = append(h.of.Told, h.name)
	}
	return nil
}

// failed sets c for another try, or parks it if it has failed for long enough.
func (s *Sweeper) failed(c *store.Callback, name string, why error) {
	now := s.cfg.Now()
	if c.FailingSince.IsZero() {
		c.FailingSince = now
	}
	if errors.Is(why, errAlone) {
		f := s.failureOf(name)
		c.Reason, c.DueAt = f.reason, f.until
		if f.until.Before(now) {
			c.DueAt = now
		}
		return
	}
	c.Attempts++
	c.Reason = push.Clip(why.Error(), mostReason)
	if errors.Is(why, ErrGone) || now.Sub(c.FailingSince) >= s.cfg.ParkAfter {
		s.park(c, c.Reason)
		return
	}
	c.DueAt = s.fails(name, why, now)
}

// park has c wait for somebody to decide.
func (s *Sweeper) park(c *store.Callback, reason string) {
	s.metrics.callback(c.Source, outcomeParked)
	s.log.Error("callback parked", "source", c.Source, "message", c.Message, "attempts", c.Attempts, "reason", reason)
	c.State, c.DueAt, c.Reason = store.CallbackParked, s.cfg.Now(), push.Clip(reason, mostReason)
}

// fails notes that a source could not be told and returns when it is tried
// again.
func (s *Sweeper) fails(name string, why error, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.failing[name]
	if f.tries == 0 {
		s.log.Warn("a source cannot be told what became of its messages", "source", name, "err", why)
	}
	if now.Before(f.until) {
		return f.until // several failed side by side, which counts once
	}
	wait := min(s.cfg.RetryFirst<<min(f.tries, 20), s.cfg.RetryMost)
	wait = wait/2 + rand.N(wait/2+1)
	var status *statusError
	if errors.As(why, &status) {
		wait = max(wait, status.after)
	}
	if len(s.failing) >= maxFailing { // sources that were removed are never told again
		maps.DeleteFunc(s.failing, func(_ string, f failure) bool { return f.until.Before(now) })
	}
	s.failing[name] = failure{tries: f.tries + 1, until: now.Add(wait), reason: push.Clip(why.Error(), mostReason)}
	return now.Add(wait)
}

// works notes that a source was told.
func (s *Sweeper) works(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.failing[name]; ok {
		delete(s.failing, name)
		s.log.Info("a source is told again what became of its messages", "source", name, "failed", f.tries)
	}
}

// leftAlone reports whether a source failed so lately that it is not tried now.
func (s *Sweeper) leftAlone(name string) bool { return s.cfg.Now().Before(s.failureOf(name).until) }

func (s *Sweeper) failureOf(name string) failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing[name]
}
