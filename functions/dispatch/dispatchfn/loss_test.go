package dispatchfn_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/store"
)

// A follower reads a channel as a node does for a connection: the log alone
// where that proves that it is whole, else the inbox and then the log.
type follower struct {
	c    *cluster
	at   push.Offset
	seen map[push.MessageID]int
}

// step reads what lies beyond the follower's position.
func (f *follower) step(ctx context.Context, channel push.Channel) error {
	q := registry.LogQuery{Channel: channel, After: f.at}
	log, err := f.c.reg.ReadLog(ctx, q)
	if err != nil {
		return err
	}
	entries := log.Entries
	for before := int64(0); !log.ReachesBack && log.Term.Number != before; {
		before = log.Term.Number
		inbox, err := f.c.store.ReadInbox(ctx, store.InboxQuery{Channel: channel, After: f.at, Now: f.c.reg.Now()})
		if err != nil {
			return err
		}
		if log, err = f.c.reg.ReadLog(ctx, q); err != nil {
			return err
		}
		entries = append(inbox.Entries, log.Entries...)
		slices.SortFunc(entries, func(a, b push.Entry) int { return int(a.Offset) - int(b.Offset) })
	}
	for i, e := range entries {
		if i > 0 && e.Offset == entries[i-1].Offset {
			if e.Message.ID != entries[i-1].Message.ID {
				return fmt.Errorf("offset %d is %s and %s", e.Offset, e.Message.ID, entries[i-1].Message.ID)
			}
			continue
		}
		f.seen[e.Message.ID]++
		f.at = e.Offset
	}
	return nil
}

// TestRedisForgetsUnderLoad flushes and restarts Redis while many send: every
// message that was confirmed reaches a follower that reads all the time, in
// rising offsets, and one that comes back late.
func TestRedisForgetsUnderLoad(t *testing.T) {
	const senders, each, times = 4, 50, 5
	const step = senders * each / (times + 1) // messages between two losses
	c := newCluster(t, dispatchfn.Config{Deadline: 2 * time.Second}, nil)
	var begun, confirmed atomic.Int64
	var lost [times]chan struct{} // closed when so much was lost
	for i := range lost {
		lost[i] = make(chan struct{})
	}
	var all []*push.Message
	for s := range senders {
		for i := range each {
			all = append(all, message(fmt.Sprintf("%d-%02d", s, i), push.Recipients{Channels: []push.Channel{"news"}}))
		}
	}
	c.insert(all...)

	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for _, m := range all[s*each : (s+1)*each] {
				// Nobody goes far beyond a loss that is due, so each comes while they send,
				// and what they send between two meets the first of them.
				if due := (int(begun.Add(1)) - step/2) / step; due > 0 {
					<-lost[min(due, times)-1]
				}
				began := time.Now()
				for again := false; c.Dispatch(t.Context(), []*push.Message{m}, again)[0] != nil; again = true {
					if time.Since(began) > patience {
						t.Errorf("message %s is not confirmed within %v", m.ID, patience)
						return
					}
				}
				confirmed.Add(1)
			}
		})
	}
	sent := make(chan struct{})
	go func() { wg.Wait(); close(sent) }()

	reader := &follower{c: c, seen: map[push.MessageID]int{}}
	restart := func() { c.redis.Stop(); c.redis.Start() }
	losses := []func(){c.redis.FlushAll, restart, c.redis.FlushAll, restart, c.redis.FlushAll}
	if c.redis.Mini() == nil {
		losses[3] = func() { c.redis.StopSaving(); c.redis.Start() }
	}
	for going := true; going; {
		select {
		case <-sent:
			going = false
		default:
		}
		if n := times - len(losses); n < times && confirmed.Load() >= int64(step*(n+1)) {
			losses[0]()
			losses = losses[1:]
			close(lost[n])
		}
		if err := reader.step(t.Context(), "news"); err != nil && going {
			t.Log(err) // Redis is away
		}
	}
	if err := reader.step(t.Context(), "news"); err != nil {
		t.Fatal(err)
	}
	late := &follower{c: c, seen: map[push.MessageID]int{}}
	if err := late.step(t.Context(), "news"); err != nil {
		t.Fatal(err)
	}
	term, err := c.reg.Term(t.Context())
	if err != nil || term.Number < 5 {
		t.Errorf("Term = %+v, %v, want five losses to make terms", term, err)
	}
	repeats := 0
	for _, m := range all {
		if reader.seen[m.ID] == 0 || late.seen[m.ID] == 0 {
			t.Errorf("message %s was seen %d times by the reader, %d by the late one", m.ID, reader.seen[m.ID], late.seen[m.ID])
		}
		repeats += reader.seen[m.ID] - 1
	}
	t.Logf("%d terms, %d repeats to the reader", term.Number, repeats)
}
