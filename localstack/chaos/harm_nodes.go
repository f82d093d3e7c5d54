package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"pushcluster/shared/push"
)

// killNodes kills one node, whose clients come back to the same port, and then
// another one, whose clients land elsewhere.
func killNodes(ctx context.Context, w *world) error {
	same, other := w.cluster.nodes[0], w.cluster.nodes[1]
	for _, c := range w.clients {
		c.mu.Lock()
		c.sticky = c.home%nodeCount == 0
		c.mu.Unlock()
	}
	w.say("%s is killed; its clients come back to its port", same.name)
	end := w.ledger.fault("kill of " + same.name)
	same.kill()
	if err := w.rest(ctx, 700*time.Millisecond); err != nil {
		return err
	}
	if err := same.start(ctx); err != nil {
		return err
	}
	end()
	if err := w.rest(ctx, w.long(12*time.Second)); err != nil {
		return err
	}
	w.say("%s is killed; its clients go elsewhere", other.name)
	other.up.Store(false)
	w.ledger.fault("kill of " + other.name)()
	other.kill()
	if err := w.rest(ctx, w.long(12*time.Second)); err != nil {
		return err
	}
	if err := other.start(ctx); err != nil {
		return err
	}
	return w.awaitWhole(ctx, 20*time.Second)
}

// freezeNode stops a node for longer than its lease lasts, and lets it go on.
func freezeNode(ctx context.Context, w *world) error {
	n := w.cluster.nodes[1]
	w.say("%s is frozen", n.name)
	end := w.ledger.fault("freeze of " + n.name)
	n.freeze()
	defer n.thaw()
	if err := w.rest(ctx, 22*time.Second); err != nil {
		return err
	}
	n.thaw()
	end()
	w.say("%s goes on", n.name)
	return w.await(ctx, 10*time.Second, n.name+" counts its lost lease", func() bool {
		series, err := scrape(ctx, n.metrics)
		return err == nil && series[`pushnode_lease_events_total{event="lost"}`] > 0
	})
}

// rollNodes restarts every node as a deployment does. Clients are told to come
// back, with 3001, spread over the time that draining takes.
func rollNodes(ctx context.Context, w *world) error {
	var errs []error
	for _, n := range w.cluster.nodes {
		w.say("%s is told to end", n.name)
		before := w.ended.len()
		end := w.ledger.fault("drain of " + n.name)
		n.up.Store(false) // the balancer took it out
		if err := n.stop(); err != nil {
			return err
		}
		if err := n.start(ctx); err != nil {
			return err
		}
		end()
		errs = append(errs, spread(n.name, w.ended.since(before), w.cluster.cfg.drain))
		if err := w.rest(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	if other := w.closes.total() - w.closes.get(3001) - int(w.raced.Load()); other > 0 {
		errs = append(errs, fmt.Errorf("%d connections ended otherwise than by 3001:%s", other, w.closes.String()))
	}
	return errors.Join(errs...)
}

// spread returns an error unless the middle nine tenths of times take more than
// half of the drain time.
func spread(name string, times []time.Time, drain time.Duration) error {
	if len(times) < 20 {
		return fmt.Errorf("only %d connections of %s ended", len(times), name)
	}
	slices.SortFunc(times, time.Time.Compare)
	edge := len(times) / 20
	if took := times[len(times)-1-edge].Sub(times[edge]); took < drain/2 {
		return fmt.Errorf("the clients of %s were sent away within %v of a drain time of %v", name, took, drain)
	}
	return nil
}

// cutDelivery cuts the network between Dispatch and one node, and later cuts
// its answers half-way. The node's clients stay connected.
func cutDelivery(ctx context.Context, w *world) error {
	n, before := w.cluster.nodes[0], w.closes.String()
	w.say("Dispatch cannot reach %s", n.name)
	end := w.ledger.fault("cut between dispatch and " + n.name)
	n.delivery.sever()
	if err := w.rest(ctx, 2*time.Second); err != nil {
		return err
	}
	// Nothing else comes for these users, so no gap will ever show.
	var drafts []draft
	for _, user := range w.quiet {
		drafts = append(drafts, w.write(push.Recipients{Users: []push.UserID{user}}, padding, 0, ""))
	}
	w.post(ctx, drafts...)
	if err := w.rest(ctx, 13*time.Second); err != nil {
		return err
	}
	n.delivery.mend()
	end()
	if err := w.rest(ctx, 5*time.Second); err != nil {
		return err
	}
	w.say("answers of %s break off half-way", n.name)
	end = w.ledger.fault("answers of " + n.name + " cut half-way")
	answers := 0
	n.delivery.inspect(func(toTarget bool, _ []byte) verdict {
		if toTarget {
			return pass
		}
		if answers++; answers%3 == 0 {
			return half
		}
		return pass
	})
	if err := w.rest(ctx, 8*time.Second); err != nil {
		return err
	}
	n.delivery.inspect(nil)
	end()
	return w.sameCloses(before)
}

// remembered is how long a node may remember what Auth said of a token.
const remembered = 10 * time.Second

// stormNodes drops every client at once: first when no node remembers their
// tokens any more, then when all do.
func stormNodes(ctx context.Context, w *world) error {
	if err := w.rest(ctx, remembered+time.Second); err != nil {
		return err
	}
	began := time.Now()
	asked, err := stormOnce(ctx, w, "tokens forgotten")
	if err != nil {
		return err
	}
	if asked > len(w.clients) {
		return fmt.Errorf("auth was asked %d times in the storm with tokens forgotten, by %d clients", asked, len(w.clients))
	}
	for {
		again := time.Now()
		asked, err := stormOnce(ctx, w, "tokens remembered")
		switch {
		case err != nil:
			return err
		case asked == 0:
			return nil
		case time.Since(began) < remembered:
			return fmt.Errorf("auth was asked %d times in the storm with tokens remembered", asked)
		}
		// The machine took so long that some tokens had been forgotten. They are
		// remembered now.
		w.say("two storms took %v: once more", time.Since(began).Round(time.Second))
		began = again
	}
}

// stormOnce drops every client, waits until all are back and whole, and returns
// how many tokens Auth was asked about.
func stormOnce(ctx context.Context, w *world, what string) (asked int, err error) {
	w.say("all clients are dropped, %s", what)
	before, err := w.verifications(ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	w.ledger.fault("drop of all clients, " + what)()
	for _, c := range w.clients {
		c.drop()
	}
	if err := w.await(ctx, 5*time.Second, "clients noticed", func() bool { return w.closes.total() > 0 && !w.clients[0].whole() }); err != nil {
		w.say("client 0 was back before anybody looked")
	}
	if err := w.awaitWhole(ctx, 30*time.Second); err != nil {
		return 0, err
	}
	w.say("all are back after %v", time.Since(began).Round(time.Millisecond))
	after, err := w.verifications(ctx)
	return int(after - before), err
}

// verifications returns how many tokens Auth has judged.
func (w *world) verifications(ctx context.Context) (float64, error) {
	series, err := scrape(ctx, w.cluster.auth.metrics)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for name, v := range series {
		if matches(name, "auth_verifications_total", nil) {
			total += v
		}
	}
	return total, nil
}
