//go:build linux

// Package measure takes the figures of one target: what a connection and a
// message cost, how fast they can come and how long they take.
package measure

import (
	"context"
	"fmt"
	"time"

	"pushcluster/bench/swarm"
	"pushcluster/bench/target"
)

// Figures are what one row found, by name: "rate" (units a second), "cpu.NAME"
// (microseconds of processor time of process NAME for each unit), "qN" (the
// N-th percentile in milliseconds) and what else a row says.
type Figures map[string]float64

// A Config says how much is measured.
type Config struct {
	Connections int
	Span        time.Duration // how long each timed row lasts; 0: 3 s
	Rate        int           // messages a second of the row latency; 0: 2,000
	Batch       int           // messages a request of the batched rows; 0: 100
	Parallel    int           // requests under way where the row is about throughput; 0: 32
	Broadcasts  int           // of the row fanout; 0: 20
	Profiles    string        // directory for profiles of every row, which cost a little; empty: none
}

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.Connections, 1000)
	set(&c.Rate, 2000)
	set(&c.Batch, 100)
	set(&c.Parallel, 32)
	set(&c.Broadcasts, 20)
	if c.Span <= 0 {
		c.Span = 3 * time.Second
	}
	return c
}

// A Rig is a target with its clients.
type Rig struct {
	cfg     Config
	target  *target.Target
	swarm   *swarm.Swarm
	empty   int64 // resident bytes before the first connection
	next    int   // user that the next message is for
	warmed  bool  // every client got a message
	results map[string]Figures
}

// NewRig makes clients with tokens for a started target, none connected. Close
// ends them; the target stays the caller's.
func NewRig(cfg Config, t *target.Target, tokens []string) (*Rig, error) {
	cfg = cfg.withDefaults()
	cfg.Connections = len(tokens)
	s, err := swarm.New(swarm.Config{Addrs: t.Addrs, Dialect: t.Dialect, Tokens: tokens})
	if err != nil {
		return nil, err
	}
	return &Rig{cfg: cfg, target: t, swarm: s, results: make(map[string]Figures)}, nil
}

// Close ends the clients.
func (r *Rig) Close() { r.swarm.Close() }

// Run takes the figures of one row. Rows that come before it in [Rows] must
// have run, where they are to run at all; connect always.
func (r *Rig) Run(ctx context.Context, row Row) (Figures, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	run := func() (Figures, error) { return row.run(ctx, r) }
	profiled := func() (Figures, error) { return r.profile(ctx, row.ID, run) }
	if row.part {
		profiled = run
	}
	f, err := profiled()
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", row.ID, r.target.Name, err)
	}
	if err := r.target.Check(); err != nil {
		return nil, err
	}
	r.results[row.ID] = f
	return f, nil
}

// spend runs f and notes in figures what each of the units that it reports cost
// the target's processes.
func (r *Rig) spend(figures Figures, f func() (units int64, err error)) error {
	before, err := r.target.CPU()
	if err != nil {
		return err
	}
	units, err := f()
	if err != nil {
		return err
	}
	after, err := r.target.CPU()
	if err != nil {
		return err
	}
	if units == 0 {
		return fmt.Errorf("nothing was done")
	}
	for name, used := range after {
		figures["cpu."+name] = micros(used-before[name]) / float64(units)
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// users returns the next n users, each in its turn.
func (r *Rig) users(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = r.next
		r.next = (r.next + 1) % r.cfg.Connections
	}
	return list
}

// toEach sends every client one message, in batches, and waits until all have
// arrived where somebody is there to get them.
func (r *Rig) toEach(ctx context.Context, here bool) error {
	r.swarm.Reset()
	r.next = 0
	for left := r.cfg.Connections; left > 0; {
		n := min(left, r.cfg.Batch)
		if err := r.target.Publisher.Many(ctx, time.Now(), r.users(n)); err != nil {
			return err
		}
		left -= n
	}
	if !here {
		return nil
	}
	_, err := r.swarm.Await(ctx, int64(r.cfg.Connections))
	return err
}
