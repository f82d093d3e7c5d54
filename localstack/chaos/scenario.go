package chaos

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"
)

// A scenario is one story of harm.
type scenario struct {
	number  int
	name    string
	double  bool // it is a double fault
	short   bool // it is part of the short form
	cluster clusterConfig
	// adjust changes what is run; nil: nothing.
	adjust func(*Options)
	// skip says why it cannot be run here; nil or "": it can.
	skip func() string
	// harm does the harm, under load, and returns when it is over. Its error is
	// a promise that was not kept beside those that the ledger finds.
	harm func(ctx context.Context, w *world) error
	// audit looks at what else is promised once everything has arrived; nil:
	// nothing.
	audit func(ctx context.Context, w *world) error
	// heal bounds how long deliveries may be held up after a fault; 0: 40 s, a
	// little more than a beat of the nodes, which heals everything. What heals by
	// a quicker way has a bound that tells when only the beat did it.
	heal time.Duration
	// quiet is how long the load goes on after the harm; 0: 3 s.
	quiet time.Duration
	// settle bounds the time until everything has arrived; 0: 45 s, which is
	// more than the slow beat of a node.
	settle time.Duration
}

// scenarios returns all of them, in their order.
func scenarios() []scenario {
	return []scenario{
		{number: 1, name: "push nodes killed", short: true, harm: killNodes, heal: 8 * time.Second},
		{number: 2, name: "push node frozen beyond its lease", harm: freezeNode, heal: 8 * time.Second},
		{number: 3, name: "rolling restart of all nodes", harm: rollNodes, heal: 6 * time.Second},
		{number: 4, name: "Redis flushed", short: true, double: true, harm: flushRedis, heal: 12 * time.Second},
		{number: 5, name: "Redis restarted empty, and away for 30 s", double: true, harm: restartRedis},
		{number: 6, name: "Redis fails over to an older copy", double: true, harm: failOver(0), heal: 12 * time.Second},
		{number: 6, name: "… whose clock is 10 s behind", double: true, harm: failOver(-10 * time.Second), skip: needShim, heal: 12 * time.Second},
		{number: 7, name: "store away for 30 s (MongoDB store)", harm: killStore, cluster: clusterConfig{ferretdb: true},
			adjust: func(o *Options) { o.Clients, o.Rate = 60, 20 }},
		{number: 8, name: "Dispatch killed mid-batch, then absent", short: true, harm: killDispatch,
			cluster: clusterConfig{proxyDelivery: true, proxyAppend: true}},
		{number: 9, name: "Collect killed between store and hand-off", harm: killCollect, cluster: clusterConfig{proxyHandoff: true},
			heal: 8 * time.Second},
		{number: 10, name: "network to one node cut, also half-way", harm: cutDelivery, cluster: clusterConfig{proxyDelivery: true},
			heal: 6 * time.Second},
		{number: 11, name: "slow clients", harm: slowDown, cluster: clusterConfig{slow: true}},
		{number: 12, name: "every post and every hand-off twice", harm: doubleAll, cluster: clusterConfig{double: true},
			heal: 6 * time.Second},
		{number: 13, name: "reconnect storm", harm: stormNodes, heal: 6 * time.Second},
		{number: 14, name: "clocks jump; a node without Redis for 2 min", harm: cutRedis, cluster: clusterConfig{proxyRedis: true},
			heal: 15 * time.Second},
		{number: 15, name: "devices offline, then back without position", double: true, harm: goOffline, audit: auditStates, heal: 20 * time.Second},
		{number: 16, name: "Redis full, logs evicted", double: true, harm: fillRedis},
		{number: 17, name: "Sentinel lets replicas take over", double: true, harm: failOverSentinel, cluster: clusterConfig{sentinel: true},
			heal: 15 * time.Second},
		{number: 18, name: "replicas of a Redis Cluster take over", double: true, harm: failOverShards, cluster: clusterConfig{sharded: true},
			heal: 15 * time.Second},
	}
}

// warmUp is how long the load runs before the harm.
func (o Options) warmUp() time.Duration {
	if o.Short {
		return time.Second
	}
	return 2 * time.Second
}

// long returns d, in the short form a fraction of it.
func (w *world) long(d time.Duration) time.Duration {
	if w.opts.Short {
		return d / 6
	}
	return d
}

// play runs the scenario in a world of its own.
func (s scenario) play(ctx context.Context, opts Options, bin string) (row Row) {
	begun := time.Now()
	row = Row{Scenario: s.number, Name: s.name, Double: s.double}
	defer func() { row.Took = time.Since(begun) }()
	if s.skip != nil {
		if row.Skip = s.skip(); row.Skip != "" {
			return row
		}
	}
	if s.adjust != nil {
		s.adjust(&opts)
	}
	w, err := newWorld(ctx, opts, opts.Seed*1000+uint64(s.number), bin, s.cluster)
	if err != nil {
		row.Wrong = append(row.Wrong, "the world could not be started: "+err.Error())
		return row
	}
	defer func() {
		if row.OK() && !opts.Keep {
			_ = w.remove() // the directory above it goes too
		}
	}()
	defer w.close()
	if err := s.unfold(ctx, w, &row); err != nil {
		row.Wrong = append(row.Wrong, err.Error())
	}
	return row
}

// unfold does the harm under load and fills in the row.
func (s scenario) unfold(ctx context.Context, w *world, row *Row) error {
	scraper := newScraper(w.cluster)
	scraping, end := context.WithCancel(ctx)
	defer end()
	go scraper.run(scraping)
	w.say("%d clients are in", len(w.clients))
	w.startLoad(ctx)
	if err := w.rest(ctx, w.opts.warmUp()); err != nil {
		return err
	}
	if w.deliveries.Load() == 0 {
		return fmt.Errorf("nothing arrived before the harm began; answers of Collect:%s", w.answers.String())
	}
	harm := s.harm(ctx, w)
	quiet, settle := s.quiet, s.settle
	if quiet == 0 {
		quiet = w.opts.warmUp() * 3 / 2
	}
	if settle == 0 {
		settle = 45 * time.Second
	}
	if harm == nil {
		harm = w.rest(ctx, quiet)
	}
	w.say("the load ends")
	w.endLoad(settle / 3)
	w.say("settling, %d missing", w.ledger.missing())
	w.settle(ctx, settle)
	if s.audit != nil {
		if err := s.audit(ctx, w); err != nil {
			row.Wrong = append(row.Wrong, err.Error())
		}
	}
	scraper.read(ctx)
	t := w.ledger.tally()
	row.fill(t)
	row.Wrong = append(row.Wrong, w.countersWrong(ctx, scraper, t, settle)...)
	// A message that was in flight when Redis lost its memory may have a new place.
	if n := w.ledger.overtakings(); n > 0 && !s.double {
		row.Wrong = append(row.Wrong, fmt.Sprintf("%d messages were overtaken by later ones of their channel", n))
	}
	healMost := s.heal
	if healMost == 0 {
		healMost = 40 * time.Second
	}
	if t.healMax > healMost {
		row.Wrong = append(row.Wrong, fmt.Sprintf("healed only after %v, more than %v", t.healMax.Round(time.Millisecond), healMost))
	}
	if n := w.banished.Load(); n > 0 {
		row.Wrong = append(row.Wrong, fmt.Sprintf("%d clients were sent away for good", n))
	}
	if err := w.cluster.check(); err != nil {
		row.Wrong = append(row.Wrong, err.Error())
	}
	row.Notes = append([]string{
		"logs: " + w.cluster.dir, "answers of Collect:" + w.answers.String(), "connections ended:" + w.closes.String()},
		w.ledger.summary()...)
	w.say("%s", strings.Join(row.Notes[1:], "\n      "))
	return harm
}

// countersWrong says what is wrong with the programs' counters, when they have
// had most for it: a program that is busy answers late, and its counters come
// behind.
func (w *world) countersWrong(ctx context.Context, s *scraper, t tally, most time.Duration) []string {
	until := time.Now().Add(most)
	for {
		wrong := s.check(w.ledger, t)
		if len(wrong) == 0 || time.Now().After(until) || w.rest(ctx, 250*time.Millisecond) != nil {
			return wrong
		}
		s.read(ctx)
	}
}

// say tells what happens, where that was asked for.
func (w *world) say(format string, args ...any) {
	if w.opts.Verbose {
		fmt.Fprintf(w.opts.Out, "   %6.2fs %s\n", time.Since(w.begun).Seconds(), fmt.Sprintf(format, args...))
	}
}

// splitList yields the parts of a list with commas, without spaces and empty
// ones.
func splitList(list string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(list, ",") {
			if part = strings.TrimSpace(part); part != "" && !yield(part) {
				return
			}
		}
	}
}
