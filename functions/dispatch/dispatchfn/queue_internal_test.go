package dispatchfn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// waitingEntry returns an entry with a message for users, which is ordered or not.
func waitingEntry(id string, ordered bool, users ...push.UserID) *dueEntry {
	e := &dueEntry{message: &push.Message{ID: push.MessageID(id), To: push.Recipients{Users: users}}}
	e.OutboxEntry = store.OutboxEntry{Message: e.message.ID}
	if ordered {
		e.Channels = e.message.To.List()
	}
	return e
}

// manyUsers returns n users, from the first one on.
func manyUsers(first, n int) []push.UserID {
	list := make([]push.UserID, n)
	for i := range list {
		list[i] = push.UserID(fmt.Sprint(first + i))
	}
	return list
}

func idsOf(entries []*dueEntry) string {
	var ids []string
	for _, e := range entries {
		ids = append(ids, string(e.Message))
	}
	return strings.Join(ids, " ")
}

// TestRound: a round is bounded, and who has nothing to do with what is wide does
// not wait for all of it.
func TestRound(t *testing.T) {
	wide, other := waitingEntry("wide", true, manyUsers(0, 10_000)...), waitingEntry("other", true, manyUsers(20_000, 10_000)...)
	half := waitingEntry("half", true, manyUsers(40_000, 6_000)...)
	var small []*dueEntry
	for i := range 600 {
		small = append(small, waitingEntry(fmt.Sprint("s", i), true, push.UserID(fmt.Sprint("u", i))))
	}
	tests := map[string]struct {
		entries         []*dueEntry
		together, extra string
	}{
		"two wide ones":                    {[]*dueEntry{wide, other}, "wide", ""},
		"a small one behind them":          {[]*dueEntry{wide, other, small[0]}, "wide", "s0"},
		"one for somebody of the first":    {[]*dueEntry{wide, other, waitingEntry("s", true, "7"), small[0]}, "wide", "s0"},
		"one for somebody of the second":   {[]*dueEntry{wide, other, waitingEntry("s", true, "20007"), small[0]}, "wide", "s0"},
		"and for somebody of that as well": {[]*dueEntry{wide, other, waitingEntry("s", true, "20007", "x"), waitingEntry("t", true, "x")}, "wide", ""},
		"two for one user":                 {[]*dueEntry{wide, waitingEntry("s", true, "x"), waitingEntry("t", true, "x")}, "wide", "s t"},
		"together too wide":                {[]*dueEntry{half, wide, other, small[0]}, "half wide", "s0"},
		"small ones before a wide one":     {[]*dueEntry{small[0], small[1], wide, small[2]}, "s0 s1 wide", "s2"},
		"a wide one without order":         {[]*dueEntry{waitingEntry("a", false, manyUsers(0, 10_000)...), waitingEntry("b", false, manyUsers(0, 10_000)...), waitingEntry("c", false, "7")}, "a", "c"},
		"so many small ones and no more":   {append([]*dueEntry{wide}, small...), "wide", idsOf(small[:extraPlaces/2])},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRound(tt.entries)
			if together, extra := idsOf(r.together), idsOf(r.extra); together != tt.together || extra != tt.extra {
				t.Errorf("together are %.60q and extra %.60q, want %.60q and %.60q", together, extra, tt.together, tt.extra)
			}
			if len(r.later)+len(r.entries) != len(tt.entries) {
				t.Errorf("of %d entries %d are of the round and %d later", len(tt.entries), len(r.entries), len(r.later))
			}
		})
	}
}

// TestRoundsKeepOrder: however entries fall into rounds, what a channel gets comes
// in the order in which it was put.
func TestRoundsKeepOrder(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 10 {
		var entries []*dueEntry
		for i := range 1 + random.IntN(40) {
			users := []push.UserID{push.UserID(fmt.Sprint(random.IntN(20_000))), push.UserID(fmt.Sprint("u", random.IntN(5)))}
			if random.IntN(3) == 0 {
				users = manyUsers(random.IntN(10_000), 9_000)
			}
			e := waitingEntry(fmt.Sprint(i), true, users...)
			e.Attempts = random.IntN(aloneAfter + 2)
			e.Sequence = int64(i + 1)
			entries = append(entries, e)
		}
		last := make(map[push.Channel]int64)
		for n := len(entries); n > 0; n = len(entries) {
			r := newRound(entries)
			parts := [][]*dueEntry{r.together, r.extra}
			for i := range r.alone {
				parts = append(parts, r.alone[i:i+1])
			}
			of := make(map[push.Channel]int) // which of parts, which are dispatched side by side, has a channel
			for part, list := range parts {
				for _, e := range list {
					for _, c := range e.Channels {
						if e.Sequence < last[c] {
							t.Fatalf("seed %d: %d of %s comes behind %d", seed, e.Sequence, c, last[c])
						}
						last[c] = e.Sequence
						if have, ok := of[c]; ok && have != part {
							t.Fatalf("seed %d: %d goes beside another of %s", seed, e.Sequence, c)
						}
						of[c] = part
					}
				}
			}
			if entries = r.later; len(entries) >= n {
				t.Fatalf("seed %d: a round took nothing of %d", seed, n)
			}
		}
	}
}

// What a schedule's event may take is not all spent on the outbox.
func TestLastLookLeavesTime(t *testing.T) {
	tests := map[string]struct{ lasts, want time.Duration }{ // lasts 0: no end
		"a process":         {0, sweepTime},
		"Lambda, 2 s":       {2 * time.Second, 4 * time.Second / 3},
		"Lambda, 30 s":      {30 * time.Second, 20 * time.Second},
		"Lambda, 60 s":      {60 * time.Second, sweepTime},
		"it has ended long": {-3 * time.Second, -2 * time.Second},
	}
	began := time.Now()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if tt.lasts != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadline(ctx, began.Add(tt.lasts))
				defer cancel()
			}
			if got := lastLook(ctx, began).Sub(began).Round(time.Millisecond); got != tt.want.Round(time.Millisecond) {
				t.Errorf("the last look begins after %v, want %v", got, tt.want)
			}
		})
	}
}
