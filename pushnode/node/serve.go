package node

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

// Ports are what a node is reached by. All but Grace is required.
type Ports struct {
	Public   net.Listener        // clients, /healthz, /readyz; closed by Serve
	Internal net.Listener        // the node API; closed by Serve
	Callers  *signature.Verifier // of the node API
	Mux      *http.ServeMux      // what else the internal port has: /metrics, profiles
	Grace    time.Duration       // how long requests under way may take to end; 0: 20 s
}

// Serve runs the node and its two ports until ctx ends, or a port cannot be
// served any more. The ports stay open while the node drains: its connections
// still get messages then. It is called once, in place of [Node.Run].
func (n *Node) Serve(ctx context.Context, p Ports, prom prometheus.Registerer) error {
	handler := serve.Wrap("public", n.Public(), n.log, prom)
	p.Mux.Handle("/v1/node/", n.Internal(p.Callers))
	public := n.Front(p.Public, handler)
	n.mu.Lock()
	n.public = public
	n.mu.Unlock()
	ports, closePorts := context.WithCancel(context.WithoutCancel(ctx))
	defer closePorts()
	life, end := context.WithCancel(ctx)
	defer end()
	var g errgroup.Group
	g.Go(func() error {
		defer closePorts()
		return n.Run(life)
	})
	g.Go(func() error {
		defer end() // a port that cannot be served ends the node
		return serve.Run(ports, n.log,
			serve.Server{Name: "public", Listener: public, Handler: handler, Grace: p.Grace},
			serve.Server{Name: "internal", Listener: p.Internal, Handler: serve.Wrap("internal", p.Mux, n.log, prom), Grace: p.Grace})
	})
	return g.Wait()
}

// Cut does to the connections of a node that serves what the end of its process
// would: they are reset, what waits to be written is lost, and the public port
// is closed. It is for who kills a node that shares a process with others; what
// the node does about Redis and the store then, its caller has to prevent.
func (n *Node) Cut() {
	n.mu.Lock()
	n.state.Store(stateDraining) // none is admitted any more
	public := n.public
	n.mu.Unlock()
	for _, c := range n.allClients() {
		c.sock.dropUnsent()
		c.abort(gone)
	}
	if public != nil {
		public.Close()
	}
}
