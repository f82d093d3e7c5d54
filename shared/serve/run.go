package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// What every server of ours allows its clients.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second  // header and body; a handler may set its own deadline
	writeTimeout      = 90 * time.Second  // from the header's end; longer than a CPU profile takes
	idleTimeout       = 120 * time.Second // longer than a balancer's 60 s, so that it closes first
	maxHeaderBytes    = 32 << 10          // holds a token of 8 KiB in the query
	defaultGrace      = 20 * time.Second
)

// A Server is one port of a program.
type Server struct {
	Name     string       // "public", "internal": for the log
	Env      string       // the environment variable that moves it, for the error when the port is taken
	Addr     string       // host:port to listen on; not used if Listener is set
	Listener net.Listener // already listening; Run closes it
	Handler  http.Handler
	// Plain has requests that are plain answered without net/http, which costs
	// several times as much: POST to a path without a query, a body of up to 64 KiB
	// whose length is told, no header that changes how a request is read. The handler
	// must not flush nor take the connection over then, and the context of such a
	// request does not end when its client leaves.
	Plain bool
	// Grace is how long requests under way may take to end once the program is
	// told to stop; 0 means 20 s.
	Grace time.Duration
}

// Listen listens on addr. Its error names the environment variable env, which
// moves the port.
func Listen(ctx context.Context, env, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w; set %s to move it", err, env)
	}
	return l, nil
}

// Run serves every server until ctx ends or one of them fails. Then all stop
// taking connections, requests under way get their grace (those of a server that
// failed do not), and what is left is cut off: once Run has returned no request
// begins, and no connection is open but those that a handler has hijacked, which
// are the handler's to close. Handlers that are slow to leave when their request's
// context ends may go on. It returns nil if it ended because ctx did.
func Run(ctx context.Context, log *slog.Logger, servers ...Server) error {
	listeners := make([]net.Listener, len(servers))
	for i, s := range servers {
		listeners[i] = s.Listener
		if s.Listener != nil {
			continue
		}
		l, err := Listen(ctx, s.Env, s.Addr)
		if err != nil {
			closeAll(listeners, servers[i:])
			return fmt.Errorf("%s port: %w", s.Name, err)
		}
		listeners[i] = l
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range servers {
		g.Go(func() error { return s.run(ctx, log, listeners[i]) })
	}
	return g.Wait()
}

// closeAll closes what was opened before one of the servers could not listen,
// and the listeners that were handed over with the rest.
func closeAll(opened []net.Listener, rest []Server) {
	for _, l := range opened {
		if l != nil {
			l.Close()
		}
	}
	for _, s := range rest {
		if s.Listener != nil {
			s.Listener.Close()
		}
	}
}

// run serves s on l until ctx ends, then shuts down. Both of its goroutines
// have ended when it returns.
func (s Server) run(ctx context.Context, log *slog.Logger, l net.Listener) error {
	log = log.With("port", s.Name)
	server := &http.Server{
		Handler:           s.Handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	var before *front
	if s.Plain {
		before = newFront(l, s.Handler, log)
		l = before
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	log.Info("listening", "addr", l.Addr().String())

	select {
	case err := <-served:
		if before != nil {
			before.Close()
			before.cutOff()
		}
		server.Close() // its connections go with it
		return fmt.Errorf("serve %s port: %w", s.Name, err)
	case <-ctx.Done():
	}
	grace := s.Grace
	if grace == 0 {
		grace = defaultGrace
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := server.Shutdown(ending)
	if err != nil {
		server.Close()
	}
	if before != nil && !before.wait(ending) {
		err = ending.Err()
	}
	if err != nil {
		log.Warn("requests cut off", "grace", grace, "err", err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s port: %w", s.Name, err)
	}
	return nil
}
