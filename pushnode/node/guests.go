package node

import (
	"net/http"
	"sync"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// guests are the requests under way whose handlers may start what Run waits for.
// Their server does not see to it that they have ended by then: it stays open
// until Run returns, and it forgets those whose connection is taken over.
type guests struct {
	running sync.WaitGroup // one for each; Add happens under mu

	mu    sync.Mutex // guards what follows
	ended bool       // no other is let in
}

// enter lets a request in, which calls leave when its handler has ended. It
// reports false if the node has ended.
func (g *guests) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	g.running.Add(1)
	return true
}

func (g *guests) leave() { g.running.Done() }

// end lets nobody in any more, and waits until all have left.
func (g *guests) end() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.running.Wait()
}

// bounded gives the answer to a guest a deadline, so that one who does not read it
// does not keep the node from ending. It does not hold for what is written to a
// connection that was taken over, and does nothing where the front answers, which
// waits for no reader.
func (n *Node) bounded(w http.ResponseWriter) {
	if frontOf(w) == nil {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(n.cfg.CommandTimeout + streamAnswer))
	}
}

// counted is h with its requests among the guests.
func (n *Node) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !n.guests.enter() {
			serve.Problem(w, r, push.NewProblem(push.CodeUnavailable, "this node has ended; another will do"))
			return
		}
		defer n.guests.leave()
		n.bounded(w)
		h.ServeHTTP(w, r)
	})
}
