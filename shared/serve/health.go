package serve

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"pushcluster/shared/push"
)

// healthDeadline bounds all checks of one /readyz together.
const healthDeadline = 2 * time.Second

// A Check is one thing that must hold for the program to be ready.
type Check struct {
	Name string // told to whoever asks /readyz
	// Probe returns nil if it holds. It must return when its context ends. Its
	// error goes to the log, never into the answer.
	Probe func(context.Context) error
}

// Health returns a handler for /healthz, which answers 200 "ok" while the
// process is alive, and /readyz, which answers 200 "ok" or a 503 problem that
// names the checks that fail. The checks run in parallel within 2 s; requests
// that come while they run share one run. What fails is logged when it starts
// to fail, and again when it has recovered.
func Health(log *slog.Logger, checks ...Check) http.Handler {
	h := &health{log: log, checks: checks, failing: make(map[string]bool)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", h.alive)
	mux.HandleFunc("GET /readyz", h.ready)
	return mux
}

type health struct {
	log    *slog.Logger
	checks []Check
	group  singleflight.Group

	mu      sync.Mutex // guards what follows
	failing map[string]bool
}

func (h *health) alive(w http.ResponseWriter, _ *http.Request) { ok(w) }

func (h *health) ready(w http.ResponseWriter, r *http.Request) {
	// Whoever asked first may hang up; those who share the run still wait for it.
	ctx := context.WithoutCancel(r.Context())
	v, _, _ := h.group.Do("", func() (any, error) { return h.run(ctx), nil })
	if failed := v.([]string); len(failed) > 0 {
		Problem(w, r, push.NewProblem(push.CodeUnavailable, "not ready: %s", strings.Join(failed, ", ")))
		return
	}
	ok(w)
}

// run returns the names of the checks that fail, in the order they were given.
func (h *health) run(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, healthDeadline)
	defer cancel()
	errs := make([]error, len(h.checks))
	var wg sync.WaitGroup
	for i, c := range h.checks {
		wg.Go(func() { errs[i] = c.Probe(ctx) })
	}
	wg.Wait()

	h.mu.Lock()
	defer h.mu.Unlock()
	var failed []string
	for i, c := range h.checks {
		if errs[i] != nil {
			failed = append(failed, c.Name)
		}
		switch {
		case errs[i] != nil && !h.failing[c.Name]:
			h.log.Warn("check fails", "check", c.Name, "err", errs[i])
		case errs[i] == nil && h.failing[c.Name]:
			h.log.Info("check recovered", "check", c.Name)
		}
		h.failing[c.Name] = errs[i] != nil
	}
	return failed
}

func ok(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	io.WriteString(w, "ok\n")
}
