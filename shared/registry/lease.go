package registry

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
)

//go:embed lease.lua
var leaseScript string

//go:embed renew.lua
var renewScript string

//go:embed nodes.lua
var nodesScript string

const (
	copyAge  = time.Second           // how old a copy of the leases may be
	copyRest = 50 * time.Millisecond // between the beginnings of two reads of them
)

// A Lease is a node's claim to be alive.
type Lease struct {
	Node     push.NodeID
	Draining bool // closes its connections; still takes what comes for them
}

func (l Lease) members() (member, other string) {
	if l.Draining {
		return string(l.Node) + drainingSuffix, string(l.Node)
	}
	return string(l.Node), string(l.Node) + drainingSuffix
}

func (l Lease) value() string {
	if l.Draining {
		return "draining"
	}
	return "live"
}

// Grant writes a lease, whether or not there was one, and returns the term it
// was written in.
func (r *Registry) Grant(ctx context.Context, l Lease) (push.Term, error) {
	if l.Node == "" || strings.ContainsAny(string(l.Node), " {}") {
		return push.Term{}, fmt.Errorf("grant lease: node id %q is none", l.Node)
	}
	var held, listed redis.Cmder
	var t push.Term
	var err error
	for here := false; err == nil && !here; {
		t, here, err = r.lookWith(ctx, func(p redis.Pipeliner) {
			held = p.Set(ctx, leaseKey(l.Node), l.value(), r.cfg.LeaseTime)
			listed = r.listLease(ctx, p, l, false)
		})
	}
	if err == nil {
		err = firstError(held, listed)
	}
	if err != nil {
		return push.Term{}, fmt.Errorf("grant lease of %s: %w", l.Node, err)
	}
	return t, nil
}

// Renew prolongs a lease that is still there, and looks at the term and at
// Redis' clock in the same round trip. If held is false the lease was gone and
// stays gone. If the term is another than before, or the lease is not held, the
// node must register everything again.
func (r *Registry) Renew(ctx context.Context, l Lease) (held bool, term push.Term, err error) {
	var renewed *redis.Cmd
	var listed redis.Cmder
	term, here, err := r.lookWith(ctx, func(p redis.Pipeliner) {
		renewed = p.Eval(ctx, renewScript, []string{leaseKey(l.Node)}, l.value(), r.cfg.LeaseTime.Milliseconds())
		listed = r.listLease(ctx, p, l, true)
	})
	if err == nil {
		err = firstError(renewed, listed)
	}
	if err != nil {
		return false, push.Term{}, fmt.Errorf("renew lease of %s: %w", l.Node, err)
	}
	had, _ := renewed.Bool()
	still, _ := listed.(*redis.Cmd).Bool()
	// Keeping the ceiling ahead here spares the appends of it, and finds a term that
	// began elsewhere. If it fails, the append that needs it will say so.
	if now, _, err := r.ensureBelow(ctx, term, min(push.OffsetAt(r.Now()), max(term.Ceiling, 1)-1)); err == nil {
		here = here && now.RunID == term.RunID
		term = now
	}
	return had && still && here, term, nil
}

// Release ends a lease at once.
func (r *Registry) Release(ctx context.Context, node push.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	p := r.rdb.Pipeline()
	member, other := Lease{Node: node}.members()
	p.ZRem(ctx, nodesKey, member, other)
	p.Del(ctx, leaseKey(node))
	if _, err := p.Exec(ctx); err != nil {
		return fmt.Errorf("release lease of %s: %w", node, err)
	}
	return nil
}

func (r *Registry) listLease(ctx context.Context, p redis.Pipeliner, l Lease, onlyHeld bool) redis.Cmder {
	member, other := l.members()
	held := "0"
	if onlyHeld {
		held = "1"
	}
	return p.Eval(ctx, leaseScript, []string{nodesKey}, member, other, r.cfg.LeaseTime.Milliseconds(), held)
}

// lookWith looks at the term, with the commands that add queues in the same
// round trip, and returns the one in force; here is false if that is at another Redis
// than the one that ran them.
func (r *Registry) lookWith(ctx context.Context, add func(redis.Pipeliner)) (t push.Term, here bool, err error) {
	s, err := r.look(ctx, add)
	if err != nil {
		return push.Term{}, false, err
	}
	if err := r.settle(ctx); err != nil {
		return push.Term{}, false, err
	}
	defer r.unsettle()
	t, err = r.agree(ctx, s)
	return t, t.RunID == s.runID, err
}

func firstError(cmds ...redis.Cmder) error {
	for _, c := range cmds {
		if err := c.Err(); err != nil {
			return err
		}
	}
	return nil
}

// leaseCopies holds the copy of all leases that calls share.
type leaseCopies struct {
	mu     sync.Mutex // guards what follows
	copy   *leaseCopy // the newest one; not changed after it was made
	flight *leaseRead // the read under way, if any
}

type leaseCopy struct {
	began  time.Time // when its read began
	leases map[push.NodeID]leaseUntil
}

type leaseUntil struct {
	Lease
	until time.Time // on Redis' clock
}

// A leaseRead is one read of the leases; err is written before done is closed.
type leaseRead struct {
	began time.Time
	done  chan struct{}
	err   error
}

// Nodes returns the leases of the wanted nodes that are alive. It answers from
// a copy at most 1 s old; a wanted node that the copy lacks is asked for again,
// so that only a lease that was gone after the call began is left out. Reads
// are shared, and begin 50 ms apart or more, which a call may have to wait.
func (r *Registry) Nodes(ctx context.Context, want []push.NodeID) (map[push.NodeID]Lease, error) {
	began := r.cfg.Now()
	c, err := r.leasesSince(ctx, began.Add(-copyAge))
	if err != nil {
		return nil, err
	}
	live, all := r.pick(c, want)
	if all {
		return live, nil
	}
	if c, err = r.leasesSince(ctx, began); err != nil {
		return nil, err
	}
	live, _ = r.pick(c, want)
	return live, nil
}

// Live returns every lease that is alive, as it was after the call began.
func (r *Registry) Live(ctx context.Context) ([]Lease, error) {
	held, err := r.Held(ctx)
	if err != nil {
		return nil, err
	}
	var live []Lease
	for _, l := range held {
		live = append(live, l.Lease)
	}
	return live, nil
}

// A HeldLease is a lease that is alive.
type HeldLease struct {
	Lease
	Left time.Duration // how long it lasts if it is not renewed
}

// Held returns what [Registry.Live] does, and how long each lease lasts.
func (r *Registry) Held(ctx context.Context) ([]HeldLease, error) {
	c, err := r.leasesSince(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	now := r.Now()
	var held []HeldLease
	for _, l := range c.leases {
		if left := l.until.Sub(now); left > 0 {
			held = append(held, HeldLease{l.Lease, left})
		}
	}
	return held, nil
}

// pick returns the wanted leases that c has and that have not ended; all is
// true if that is every one.
func (r *Registry) pick(c *leaseCopy, want []push.NodeID) (live map[push.NodeID]Lease, all bool) {
	live, all = make(map[push.NodeID]Lease, len(want)), true
	now := r.Now()
	for _, id := range want {
		l, ok := c.leases[id]
		if ok && l.until.After(now) {
			live[id] = l.Lease
		} else {
			all = false
		}
	}
	return live, all
}

// leasesSince returns a copy whose read began at since or later.
func (r *Registry) leasesSince(ctx context.Context, since time.Time) (*leaseCopy, error) {
	l := &r.leases
	for {
		l.mu.Lock()
		if l.copy != nil && !l.copy.began.Before(since) {
			defer l.mu.Unlock()
			return l.copy, nil
		}
		read := l.flight
		var rest time.Duration
		if read == nil {
			if l.copy != nil {
				rest = copyRest - r.cfg.Now().Sub(l.copy.began)
			}
			if rest <= 0 {
				read = &leaseRead{began: r.cfg.Now(), done: make(chan struct{})}
				if err := r.goRun(func() { r.readLeases(read) }); err != nil {
					l.mu.Unlock()
					return nil, err
				}
				l.flight = read
			}
		}
		l.mu.Unlock()

		if read == nil {
			if err := wait(ctx, rest); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-read.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if read.err != nil && !read.began.Before(since) {
			return nil, fmt.Errorf("read leases: %w", read.err)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readLeases makes a new copy and ends the read.
func (r *Registry) readLeases(read *leaseRead) {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Timeout)
	defer cancel()
	sent := r.cfg.Now()
	reply, err := r.rdb.Eval(ctx, nodesScript, []string{nodesKey}).Result()
	var leases map[push.NodeID]leaseUntil
	var now time.Time
	if err == nil {
		leases, now, err = decodeLeases(reply)
	}
	if err == nil {
		r.clock.heard(now, sent)
	}
	l := &r.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	if read.err = err; err == nil {
		l.copy = &leaseCopy{began: read.began, leases: leases}
	}
	l.flight = nil
	close(read.done)
}

// decodeLeases reads the answer of nodes.lua.
func decodeLeases(reply any) (map[push.NodeID]leaseUntil, time.Time, error) {
	parts, ok := reply.([]any)
	if !ok || len(parts) != 2 {
		return nil, time.Time{}, fmt.Errorf("%w: leases are a %T", errBadReply, reply)
	}
	text, _ := parts[0].(string)
	ms, err := strconv.ParseInt(text, 10, 64)
	flat, ok := parts[1].([]any)
	if err != nil || !ok || len(flat)%2 != 0 {
		return nil, time.Time{}, fmt.Errorf("%w: leases hold a %T and a %T", errBadReply, parts[0], parts[1])
	}
	leases := make(map[push.NodeID]leaseUntil, len(flat)/2)
	for i := 0; i < len(flat); i += 2 {
		member, ok1 := flat[i].(string)
		text, ok2 := flat[i+1].(string)
		end, err := strconv.ParseFloat(text, 64)
		if !ok1 || !ok2 || err != nil || !(end > 0 && end < maxOffset) {
			return nil, time.Time{}, fmt.Errorf("%w: a lease ends at %.40q", errBadReply, text)
		}
		node, draining := strings.CutSuffix(member, drainingSuffix)
		leases[push.NodeID(node)] = leaseUntil{Lease{push.NodeID(node), draining}, time.UnixMilli(int64(end))}
	}
	return leases, time.UnixMilli(ms), nil
}
