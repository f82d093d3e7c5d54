package dispatchfn

import (
	"slices"
	"testing"
	"time"

	"pushcluster/shared/push"
)

// waitingCall returns a call that came a time before now.
func waitingCall(now time.Time, age time.Duration, places, bytes int) *call {
	return &call{messages: make([]*push.Message, 1), places: places, bytes: bytes, began: now.Add(-age), done: make(chan struct{})}
}

// TestTake: what goes together is bounded, what may have been dispatched before
// goes apart from what is new, and what waited too long does not go.
func TestTake(t *testing.T) {
	const fresh, most = time.Second, 10 * time.Second
	type waits struct {
		age           time.Duration
		places, bytes int
	}
	many := func(n int, w waits) []waits { return slices.Repeat([]waits{w}, n) }
	tests := map[string]struct {
		waiting   []waits
		items     int
		calls     int
		again     bool
		late      int
		appending int
	}{
		"nothing":              {nil, 1000, 0, false, 0, 0},
		"one":                  {many(1, waits{0, 2, 10}), 1000, 1, false, 0, 1},
		"many":                 {many(gatherCalls+10, waits{0, 2, 10}), 1000, gatherCalls, false, 0, 1},
		"many places":          {many(100, waits{0, 20, 10}), 1000, gatherPlaces / 20, false, 0, 1},
		"much data":            {many(100, waits{0, 2, smallBytes}), 1000, gatherBytes / smallBytes, false, 0, 1},
		"small batches":        {many(10, waits{0, 2, 10}), 5, 2, false, 0, 1},
		"one that fills it":    {many(2, waits{0, 5, 10}), 5, 1, false, 0, 1},
		"for a second":         {many(2, waits{fresh, 2, 10}), 1000, 2, false, 0, 1},
		"for longer":           {many(2, waits{fresh + 1, 2, 10}), 1000, 2, true, 0, 1},
		"old ones before new":  {append(many(2, waits{fresh + 1, 2, 10}), many(3, waits{0, 2, 10})...), 1000, 2, true, 0, 1},
		"one soon too late":    {append(many(1, waits{most - 1, 2, 10}), many(3, waits{2 * fresh, 2, 10})...), 1000, 1, true, 0, 1},
		"some too late":        {append(many(2, waits{most, 2, 10}), waits{most - 1, 2, 10}), 1000, 1, true, 2, 1},
		"all too late":         {many(3, waits{most, 2, 10}), 1000, 0, false, 3, 0},
		"too late, then fresh": {append(many(2, waits{most, 2, 10}), waits{0, 2, 10}), 1000, 1, false, 2, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			g := newGathering(tt.items, fresh, most)
			var all []*call
			for _, w := range tt.waiting {
				c := waitingCall(now, w.age, w.places, w.bytes)
				g.add(c)
				all = append(all, c)
			}
			calls, again, late := g.take(now)
			if len(calls) != tt.calls || again != tt.again || len(late) != tt.late {
				t.Fatalf("taken are %d, again %v, and %d are late; want %d, %v, %d", len(calls), again, len(late), tt.calls, tt.again, tt.late)
			}
			if g.led || g.appending != tt.appending || g.bytes != bytesOf(all[tt.late+tt.calls:]) {
				t.Errorf("led %v, %d appending, %d bytes wait; want false, %d, %d", g.led, g.appending, g.bytes, tt.appending, bytesOf(all[tt.late+tt.calls:]))
			}
			if !slices.Equal(slices.Concat(late, calls, g.waiting), all) {
				t.Error("what waited is not late, taken or waiting still, in the order in which it came")
			}
		})
	}
}

func bytesOf(calls []*call) (n int) {
	for _, c := range calls {
		n += c.bytes
	}
	return n
}

// TestAdd: what waits is bounded by number and by data, and who leaves makes room.
func TestAdd(t *testing.T) {
	tests := map[string]struct{ calls, bytes int }{
		"many":      {waitingCalls, 1},
		"much data": {waitingBytes / smallBytes, smallBytes},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			g := newGathering(1000, time.Second, 10*time.Second)
			var first *call
			for i := range tt.calls {
				c := waitingCall(now, 0, 2, tt.bytes)
				if lead, ok := g.add(c); !ok || lead != (i == 0) {
					t.Fatalf("call %d: lead %v, ok %v; want %v, true", i, lead, ok, i == 0)
				}
				if i == 0 {
					first = c
				}
			}
			next := waitingCall(now, 0, 2, tt.bytes)
			if _, ok := g.add(next); ok {
				t.Error("one more may wait")
			}
			if !g.leave(first) || g.leave(first) || g.leave(next) {
				t.Error("not exactly what waits may leave")
			}
			if _, ok := g.add(next); !ok {
				t.Error("nothing may wait in the place of what left")
			}
			if calls, _, _ := g.take(now); g.leave(calls[0]) {
				t.Error("what was taken may leave")
			}
		})
	}
}

// TestShortBatch: what a batch did not take fails.
func TestShortBatch(t *testing.T) {
	m := &push.Message{}
	taken, cut := &call{messages: []*push.Message{m}, done: make(chan struct{})}, &call{messages: []*push.Message{m, m}, first: 1, done: make(chan struct{})}
	b := &batch{problems: make([]*push.Problem, 2, 3), calls: []*call{taken, cut}, judged: true}
	b.endAll(true)
	if taken.problems[0] != nil {
		t.Errorf("what was taken has %v, want nothing", taken.problems[0])
	}
	for i, p := range cut.problems {
		if p == nil || p.Code != push.CodeInternal {
			t.Errorf("message %d of what was cut off has %v, want %s", i, p, push.CodeInternal)
		}
	}
	if len(cut.problems) != 2 {
		t.Errorf("what was cut off has %d problems, want 2", len(cut.problems))
	}
}
