package node

import (
	"context"
	"time"

	"pushcluster/shared/push"
)

// spawn starts a goroutine that Run waits for, for what lasts.
func (n *Node) spawn(f func()) { n.wg.Go(f) }

// work has a goroutine, which Run waits for, do what ends by itself.
func (n *Node) work(f func()) { n.workers.do(f) }

// drain ends the node's service without loss: it takes no more connections,
// tells the cluster, closes its connections one after another over DrainTime so
// that they land elsewhere, and gives up its routes and its lease.
func (n *Node) drain() {
	n.mu.Lock()
	n.state.Store(stateDraining)
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTime+n.cfg.CloseTimeout+5*time.Second)
	defer cancel()
	if _, _, err := n.reg.Renew(ctx, n.lease()); err != nil {
		n.log.Warn("lease not marked draining", "err", err)
	}
	clients := n.allClients()
	n.log.Info("node drains", "node", n.cfg.ID, "connections", len(clients), "over", n.cfg.DrainTime)
	begin := time.Now()
	n.closeInWaves(ctx, clients)
	n.awaitEmpty(n.cfg.CloseTimeout)
	n.cursors.flush(ctx)
	n.routes.flush(ctx)
	if err := n.reg.Release(ctx, n.cfg.ID); err != nil {
		n.log.Warn("lease not released, it expires by itself", "err", err)
	}
	n.log.Info("node drained", "node", n.cfg.ID, "took", time.Since(begin))
}

// closeInWaves closes clients one after another over DrainTime, so that they
// do not all arrive elsewhere at once. It ends early with ctx, and when none is
// left.
func (n *Node) closeInWaves(ctx context.Context, clients []*client) {
	begin := time.Now()
	look := time.NewTicker(emptyPace)
	defer look.Stop()
	for i, c := range clients {
		due := time.After(time.Until(begin.Add(n.cfg.DrainTime * time.Duration(i) / time.Duration(len(clients)))))
		for waits := true; waits; {
			select {
			case <-due:
				waits = false
			case <-look.C:
				if n.connections() == 0 {
					return
				}
			case <-ctx.Done():
				return
			}
		}
		c.close(push.CloseShutdown)
	}
}

// emptyPace is how often a node that drains looks whether anybody is left.
const emptyPace = 10 * time.Millisecond

// awaitEmpty waits until no connection is left, for at most limit; those that
// remain are cut off.
func (n *Node) awaitEmpty(limit time.Duration) {
	for end := time.Now().Add(limit); n.connections() > 0 && time.Now().Before(end); {
		time.Sleep(emptyPace)
	}
	for _, c := range n.allClients() {
		c.abort(gone)
	}
	for n.connections() > 0 {
		time.Sleep(emptyPace) // their readers are ending
	}
}
