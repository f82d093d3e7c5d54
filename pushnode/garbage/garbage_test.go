package garbage

import (
	"context"
	"errors"
	"runtime/debug"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestJudge(t *testing.T) {
	const mib = 1 << 20
	cfg := Config{Room: 16 * mib, Busy: 2 * mib, Look: time.Second, Apart: 30 * time.Second}
	// A step is what the judge is told, some time after the last step, and what
	// it orders.
	type step struct {
		after     time.Duration
		look      bool // else a collection ended
		allocated uint64
		alive     uint64
		want      order
	}
	tests := map[string][]step{
		"a collection now and then": {
			{time.Minute, false, 4 * mib, 4 * mib, order{}},
			{2 * time.Minute, false, 4 * mib, 4 * mib, order{}},
		},
		"a storm, and rest after it": {
			{time.Minute, false, 4 * mib, 4 * mib, order{}},
			{100 * time.Millisecond, false, 5 * mib, 5 * mib, order{percent: 320, room: 11 * mib, watch: true}},
			{200 * time.Millisecond, false, 16 * mib, 10 * mib, order{percent: 160, room: 6 * mib}},
			{200 * time.Millisecond, false, 16 * mib, 10 * mib, order{}},
			{500 * time.Millisecond, true, 20 * mib, 10 * mib, order{}},
			{time.Second, true, mib, 10 * mib, order{percent: 100, giveBack: true}},
			{10 * time.Millisecond, false, mib / 4, 8 * mib, order{}}, // the collection by which it gives back
		},
		"more is alive than the room holds": {
			{100 * time.Millisecond, false, 50 * mib, 50 * mib, order{watch: true}},
			{time.Second, true, mib, 50 * mib, order{percent: 100, giveBack: true}},
		},
		"steady traffic": {
			{100 * time.Millisecond, false, 4 * mib, 4 * mib, order{percent: 400, room: 12 * mib, watch: true}},
			{time.Second, true, 3 * mib, 4 * mib, order{}},
			{time.Second, true, 3 * mib, 4 * mib, order{}},
			{time.Second, true, 2 * mib, 4 * mib, order{}}, // little less does not end it
		},
		"many connections that only answer pings": {
			{10 * time.Second, false, 200 * mib, 400 * mib, order{}},
			{10 * time.Second, false, 200 * mib, 400 * mib, order{}},
		},
		"memory is not given back again and again": {
			{100 * time.Millisecond, false, 4 * mib, 4 * mib, order{percent: 400, room: 12 * mib, watch: true}},
			{time.Second, true, 0, 4 * mib, order{percent: 100, giveBack: true}},
			{100 * time.Millisecond, false, 4 * mib, 4 * mib, order{percent: 400, room: 12 * mib, watch: true}},
			{time.Second, true, 0, 4 * mib, order{}},
			{10 * time.Second, true, 0, 4 * mib, order{}},
			{20 * time.Second, true, 0, 4 * mib, order{percent: 100, giveBack: true}},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			j := judge{cfg: cfg, percent: goPercent}
			var s state
			j.begin(now, s)
			for i, step := range steps {
				now = now.Add(step.after)
				s.allocated += step.allocated
				s.alive = step.alive
				decide := j.collected
				if step.look {
					decide = j.look
				}
				if got := decide(now, s); got != step.want {
					t.Errorf("step %d is answered %+v, want %+v", i, got, step.want)
				}
			}
		})
	}
}

// run runs a keeper for the length of the test.
func run(t *testing.T, cfg Config) *Keeper {
	t.Helper()
	k := New(cfg, prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want %v", err, context.Canceled)
		}
	})
	return k
}

// await calls met until it is true, with pause between the calls.
func await(t *testing.T, what string, pause func(), met func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !met(); pause() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

var litter []byte // so that garbage is made on the heap

func TestRoomWhileBusy(t *testing.T) {
	k := run(t, Config{Room: 64 << 20, Busy: 1 << 20, Look: 50 * time.Millisecond, Apart: time.Millisecond})
	// Who pauses is at rest, and busy again later: what belongs together is awaited together.
	await(t, "room, and that more may be garbage", func() { litter = make([]byte, 64<<10) }, func() bool {
		return testutil.ToFloat64(k.busy) > 0 && read().percent > goPercent
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	await(t, "a return of memory, and Go's rule without room", func() { <-tick.C }, func() bool {
		return testutil.ToFloat64(k.returns) > 0 && read().percent == goPercent && testutil.ToFloat64(k.busy) == 0
	})
}

func TestWhatGOGCSaysStays(t *testing.T) {
	before := debug.SetGCPercent(50)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	k := run(t, Config{Busy: 1, Look: time.Millisecond, Apart: time.Millisecond})
	for range 200 {
		litter = make([]byte, 1<<20)
	}
	if p, room := read().percent, testutil.ToFloat64(k.busy); p != 50 || room != 0 {
		t.Errorf("%d %% may be garbage and there is %v room, want 50 and 0", p, room)
	}
}

func TestGoRuleAfterRun(t *testing.T) {
	t.Run("busy", func(t *testing.T) {
		k := run(t, Config{Room: 64 << 20, Busy: 1, Look: time.Minute})
		await(t, "room", func() { litter = make([]byte, 64<<10) }, func() bool { return testutil.ToFloat64(k.busy) > 0 })
	})
	if p := read().percent; p != goPercent {
		t.Errorf("after Run %d %% may be garbage, want %d", p, goPercent)
	}
}
