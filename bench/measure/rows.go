//go:build linux

package measure

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pushcluster/bench/target"
)

// A Row is one measure.
type Row struct {
	ID    string
	About string // for people
	Unit  string // what a figure of processor time is for
	run   func(ctx context.Context, r *Rig) (Figures, error)
	part  bool // only a part of it counts: it takes its profiles of that itself
}

// Rows returns every measure of a target that is not about coming back, in the
// order in which they are taken.
func Rows() []Row {
	return []Row{
		{"connect", "connect, authenticated and routed", "connection", connect, false},
		{"memory", "idle memory", "connection", memory, false},
		{"unicast", "unicast, one request each", "message", unicast, false},
		{"batched", "unicast, batched", "message", batched, false},
		{"latency", "latency at a steady rate", "message", latency, false},
		{"half", "latency at half its own maximum", "message", half, false},
		{"fanout", "one message to all: last delivery", "delivery", fanout, false},
		{"broadcast", "sustained broadcast", "delivery", broadcast, false},
		{"alone", "unicast, batched, to the node alone", "message", alone, false},
		{"halfalone", "latency at half of that", "message", halfAlone, false},
		{"xadd", "Redis: one pipelined XADD *", "append", xadd, false},
	}
}

// Recover returns the measure of coming back. It wants a target that keeps
// history, and a rig on which nothing else has run.
func Recover() Row {
	return Row{"recover", "all drop, miss one message, return and recover it", "connection", comeBack, true}
}

func connect(ctx context.Context, r *Rig) (Figures, error) {
	if err := r.target.Settle(ctx); err != nil {
		return nil, err
	}
	var err error
	if r.empty, err = r.target.RSS(ctx); err != nil {
		return nil, err
	}
	f := Figures{}
	return f, r.spend(f, func() (int64, error) {
		begin := time.Now()
		err := r.swarm.Connect(ctx)
		f["rate"] = float64(r.cfg.Connections) / time.Since(begin).Seconds()
		return int64(r.cfg.Connections), err
	})
}

func memory(ctx context.Context, r *Rig) (Figures, error) {
	if err := r.target.Settle(ctx); err != nil {
		return nil, err
	}
	full, err := r.target.RSS(ctx)
	if err != nil {
		return nil, err
	}
	return Figures{
		"kib":     float64(full-r.empty) / 1024 / float64(r.cfg.Connections),
		"rss.mib": float64(full) / (1 << 20),
	}, nil
}

// warm has every client get one message, once, so that what is made at first
// use is there: the first message of a channel costs more than those after it.
func (r *Rig) warm(ctx context.Context) error {
	if r.warmed {
		return nil
	}
	r.warmed = true
	// Where an answered upgrade is all there is, a server may know a connection a
	// moment after its client does.
	if err := r.target.Settle(ctx); err != nil {
		return err
	}
	if err := r.toEach(ctx, true); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return r.target.Settle(ctx)
}

// throughput floods and tells rate, cost, and how many messages came in a frame.
func throughput(ctx context.Context, r *Rig, p target.Publisher, parallel, batch int) (Figures, error) {
	if err := r.warm(ctx); err != nil {
		return nil, err
	}
	f := Figures{}
	err := r.spend(f, func() (int64, error) {
		n, took, err := r.flood(ctx, p, parallel, batch)
		f["rate"] = float64(n) / took.Seconds()
		return n, err
	})
	if err != nil {
		return nil, err
	}
	counts := r.swarm.Counts()
	f["per.frame"] = float64(counts.Messages) / float64(max(1, counts.Frames))
	return f, r.target.Settle(ctx)
}

func unicast(ctx context.Context, r *Rig) (Figures, error) {
	return throughput(ctx, r, r.target.Publisher, r.cfg.Parallel, 1)
}

// batchParallel is how many batches are under way.
const batchParallel = 4

func batched(ctx context.Context, r *Rig) (Figures, error) {
	return throughput(ctx, r, r.target.Publisher, batchParallel, r.cfg.Batch)
}

func alone(ctx context.Context, r *Rig) (Figures, error) {
	if r.target.Direct == nil {
		return r.rateOf(ctx, "batched", batched) // the node is alone
	}
	return throughput(ctx, r, r.target.Direct, r.apart(batchParallel, r.cfg.Batch), r.cfg.Batch)
}

// apart returns how many batches, at most, may be under way so that no two are
// for one user: a node alone keeps the order of what overtakes by leaving it out.
func (r *Rig) apart(most, batch int) int { return max(1, min(most, r.cfg.Connections/(2*batch))) }

// rateOf returns the figures of a row that ran, or runs it.
func (r *Rig) rateOf(ctx context.Context, id string, run func(context.Context, *Rig) (Figures, error)) (Figures, error) {
	if f := r.results[id]; f != nil {
		return f, nil
	}
	return run(ctx, r)
}

// quantiles are the percentiles that are kept, as parts of a thousand thousand.
var quantiles = []struct {
	name string
	part float64
}{
	{"q50", .5}, {"q75", .75}, {"q90", .9}, {"q95", .95}, {"q99", .99}, {"q99.5", .995}, {"q99.9", .999}, {"q99.95", .9995}, {"q99.99", .9999}, {"q100", 1},
}

// paced publishes at a rate and tells the percentiles and the cost.
func paced(ctx context.Context, r *Rig, p target.Publisher, rate float64, parallel, batch int) (Figures, error) {
	if err := r.warm(ctx); err != nil {
		return nil, err
	}
	f := Figures{"rate": rate}
	err := r.spend(f, func() (int64, error) {
		took, err := r.pace(ctx, p, rate, parallel, batch)
		if err != nil {
			return 0, err
		}
		for _, q := range quantiles {
			f[q.name] = millis(took.Quantile(q.part))
		}
		return took.Total(), nil
	})
	if err != nil {
		return nil, err
	}
	return f, r.target.Settle(ctx)
}

func latency(ctx context.Context, r *Rig) (Figures, error) {
	return paced(ctx, r, r.target.Publisher, float64(r.cfg.Rate), target.Connections, 1)
}

func half(ctx context.Context, r *Rig) (Figures, error) {
	most, err := r.rateOf(ctx, "unicast", unicast)
	if err != nil {
		return nil, err
	}
	return paced(ctx, r, r.target.Publisher, most["rate"]/2, target.Connections, 1)
}

// smallBatch is how many messages come together where the time of each counts.
const smallBatch = 20

func halfAlone(ctx context.Context, r *Rig) (Figures, error) {
	most, err := r.rateOf(ctx, "alone", alone)
	if err != nil {
		return nil, err
	}
	p := r.target.Direct
	if p == nil {
		p = r.target.Publisher
	}
	return paced(ctx, r, p, most["rate"]/2, r.apart(target.Connections, smallBatch), smallBatch)
}

func fanout(ctx context.Context, r *Rig) (Figures, error) {
	n := int64(r.cfg.Connections)
	took := make([]time.Duration, r.cfg.Broadcasts)
	f := Figures{}
	r.swarm.Reset()
	err := r.spend(f, func() (int64, error) {
		for i := range took {
			at := time.Now()
			if err := r.target.Publisher.All(ctx, at); err != nil {
				return 0, err
			}
			last, err := r.swarm.Await(ctx, int64(i+1)*n)
			if err != nil {
				return 0, err
			}
			took[i] = last.Sub(at)
		}
		return n * int64(len(took)), nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(took)
	f["median"], f["worst"] = millis(took[len(took)/2]), millis(took[len(took)-1])
	return f, r.target.Settle(ctx)
}

// ahead is how many broadcasts may be sent before the first of them has reached
// everybody: enough to keep a server busy, too few to fill its queues.
const ahead = 3

func broadcast(ctx context.Context, r *Rig) (Figures, error) {
	n := int64(r.cfg.Connections)
	f := Figures{}
	r.swarm.Reset()
	err := r.spend(f, func() (int64, error) {
		begin := time.Now()
		sent := int64(0)
		for time.Since(begin) < r.cfg.Span {
			if err := r.target.Publisher.All(ctx, time.Now()); err != nil {
				return 0, err
			}
			sent++
			if _, err := r.swarm.Await(ctx, (sent-ahead)*n); err != nil {
				return 0, err
			}
		}
		last, err := r.swarm.Await(ctx, sent*n)
		f["rate"] = float64(sent*n) / last.Sub(begin).Seconds()
		return sent * n, err
	})
	if err != nil {
		return nil, err
	}
	return f, r.target.Settle(ctx)
}

// comeBack has every client connect, get a message, vanish, miss one, and come
// back for it.
func comeBack(ctx context.Context, r *Rig) (Figures, error) {
	if !r.target.Recovers {
		return nil, target.ErrNotOffered
	}
	if err := r.swarm.Connect(ctx); err != nil {
		return nil, err
	}
	r.swarm.Locate(true)
	if err := r.warm(ctx); err != nil {
		return nil, err
	}
	r.swarm.Locate(false)
	r.swarm.Drop()
	if err := r.target.Settle(ctx); err != nil {
		return nil, err
	}
	if err := r.toEach(ctx, false); err != nil {
		return nil, err
	}
	if err := r.target.Settle(ctx); err != nil {
		return nil, err
	}
	n := int64(r.cfg.Connections)
	f, err := r.profile(ctx, Recover().ID, func() (Figures, error) {
		f := Figures{}
		return f, r.spend(f, func() (int64, error) {
			begin := time.Now()
			if err := r.swarm.Connect(ctx); err != nil {
				return 0, err
			}
			last, err := r.swarm.Await(ctx, n)
			f["seconds"] = last.Sub(begin).Seconds()
			return n, err
		})
	})
	if err != nil {
		return nil, err
	}
	if err := r.target.Settle(ctx); err != nil {
		return nil, err
	}
	if got := r.swarm.Counts().Messages; got != n {
		return nil, fmt.Errorf("%d messages were recovered, want %d", got, n)
	}
	return f, nil
}

// xadd appends to as many streams as there are channels, which all exist: to make
// one costs more than to append to it.
func xadd(ctx context.Context, r *Rig) (Figures, error) {
	streams := r.cfg.Connections
	if _, err := r.target.AppendPlain(ctx, streams, streams); err != nil {
		return nil, err
	}
	all := Figures{}
	err := r.spend(all, func() (int64, error) {
		n, err := r.target.AppendPlain(ctx, streams, 5*streams)
		return int64(n), err
	})
	return Figures{"cpu.redis": all["cpu.redis"]}, err
}
