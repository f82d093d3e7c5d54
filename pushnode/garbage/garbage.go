// Package garbage gives Go's collector room while a process is busy, and gives
// the memory back when it is at rest.
//
// Go lets as much garbage gather as is alive. In a node that is little, so that
// it would collect many times a second while thousands connect, and look at all
// connections each time. Room costs nothing that lasts as long as it is used for
// garbage that comes and goes; what must not be is that it stays in use while
// nothing happens. So there is room only between the first collections that
// follow one another quickly and a second in which next to nothing was allocated.
package garbage

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// A Config says how much room there is and when. Zero values mean the defaults.
type Config struct {
	Room  int64         // bytes of garbage that gather in a busy process before they are collected; more where more is alive, as by Go's rule; default 16 MiB
	Busy  int64         // bytes allocated a second above which a process is busy; default 2 MiB, and a tenth of what is alive
	Look  time.Duration // how often a busy process is looked at; it is at rest when it allocated less than half of Busy since the last look; default 1 s
	Apart time.Duration // the least time between two returns of memory; default 30 s
}

func (c Config) withDefaults() Config {
	if c.Room <= 0 {
		c.Room = 16 << 20
	}
	if c.Busy <= 0 {
		c.Busy = 2 << 20
	}
	if c.Look <= 0 {
		c.Look = time.Second
	}
	if c.Apart <= 0 {
		c.Apart = 30 * time.Second
	}
	return c
}

// goPercent is Go's own rule: as much garbage as is alive.
const goPercent = 100

// A Keeper decides when garbage is collected. There may be one in a process.
type Keeper struct {
	cfg     Config
	busy    prometheus.Gauge
	returns prometheus.Counter
}

// New returns a keeper. It changes nothing before Run.
func New(cfg Config, reg prometheus.Registerer) *Keeper {
	f := promauto.With(reg)
	return &Keeper{
		cfg:     cfg.withDefaults(),
		busy:    f.NewGauge(prometheus.GaugeOpts{Name: "pushnode_garbage_room_bytes", Help: "Garbage that may gather beyond Go's rule: above 0 while the node is busy."}),
		returns: f.NewCounter(prometheus.CounterOpts{Name: "pushnode_memory_returns_total", Help: "How often memory was given back to the system because the node came to rest."}),
	}
}

// Run keeps the collector until ctx ends, and returns ctx's error. Then Go's rule
// is in force again. Where GOGC says something else than Go does by itself, that
// stays in force, and Run only waits. A memory limit (GOMEMLIMIT) counts for more
// than the room.
func (k *Keeper) Run(ctx context.Context) error {
	if read().percent != goPercent {
		<-ctx.Done()
		return ctx.Err()
	}
	cycles, end := watch()
	defer end()
	look := time.NewTicker(k.cfg.Look)
	defer look.Stop()
	look.Stop()
	j := judge{cfg: k.cfg, percent: goPercent}
	j.begin(time.Now(), read())
	for {
		var o order
		select {
		case <-ctx.Done():
			k.busy.Set(0)
			debug.SetGCPercent(goPercent)
			return ctx.Err()
		case <-cycles:
			o = j.collected(time.Now(), read())
		case <-look.C:
			o = j.look(time.Now(), read())
		}
		if o.percent != 0 {
			debug.SetGCPercent(o.percent)
			k.busy.Set(float64(o.room))
		}
		switch {
		case o.giveBack:
			look.Stop()
			debug.FreeOSMemory()
			j.begin(time.Now(), read()) // the collection that this took tells nothing
			k.returns.Inc()
		case o.watch:
			look.Reset(k.cfg.Look)
		}
	}
}

// A state is what the runtime knows.
type state struct {
	allocated uint64 // bytes, since the process began
	alive     uint64 // bytes that the last collection found
	roots     uint64 // bytes of stacks and globals, which Go's rule counts as alive
	percent   int    // of what is alive that garbage may be
}

func read() state {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}, {Name: "/gc/gogc:percent"},
	}
	metrics.Read(s)
	return state{
		allocated: s[0].Value.Uint64(), alive: s[1].Value.Uint64(), roots: s[2].Value.Uint64() + s[3].Value.Uint64(),
		percent: int(min(s[4].Value.Uint64(), math.MaxInt32)),
	}
}

// watch has a collection announced on cycles whenever one has ended, until end is
// called.
func watch() (cycles <-chan struct{}, end func()) {
	ch := make(chan struct{}, 1)
	ended := make(chan struct{})
	var again func(struct{})
	again = func(struct{}) {
		select {
		case <-ended:
			return
		default:
		}
		select {
		case ch <- struct{}{}:
		default: // it is announced already
		}
		mark := new([2]*byte) // nobody keeps it: the next collection finds it
		runtime.AddCleanup(mark, again, struct{}{})
	}
	again(struct{}{})
	return ch, func() { close(ended) }
}
