// Package dispatchfn is Dispatch: it gives accepted messages their places in
// the channels they are for, keeps those places in the inbox, and brings the
// messages to the nodes that hold the channels' connections.
//
// One request goes this way:
//
//  1. Every message is appended to the logs of all its channels, in one
//     pipeline, which also returns the routes. Where a message may have been
//     placed before and the log does not know it, the inbox is asked first.
//  2. Side by side: the places are written to the inbox, and each node with a
//     route and a live lease gets one request with everything for it.
//  3. After the inbox is written the term is looked at once more, unless so
//     little time passed that nobody can have read in another one. If it
//     changed, readers may already have passed the places of the old term: what
//     was written is appended again, moved in the inbox and pushed again.
//
// A message is confirmed when all its places are in the inbox. That a push
// failed confirms nothing and unconfirms nothing: the node finds the gap, or its
// slow beat does.
package dispatchfn

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
	"pushcluster/shared/telemetry"
)

// Limits of one request.
const (
	MaxBody     = 8 << 20 // bytes
	MaxMessages = 1000
)

// A Registry is where logs, routes and leases are; registry.Registry is one.
type Registry interface {
	Append(ctx context.Context, items []registry.Item) (registry.Appended, error)
	Term(ctx context.Context) (push.Term, error)
	InTerm(ctx context.Context, t push.Term) (bool, error)
	Nodes(ctx context.Context, want []push.NodeID) (map[push.NodeID]registry.Lease, error)
	Live(ctx context.Context) ([]registry.Lease, error)
	Held(ctx context.Context) ([]registry.HeldLease, error)
	RemoveRoutes(ctx context.Context, node push.NodeID, routes []registry.ChannelRoute) error
	Now() time.Time
	Ready(ctx context.Context) error
}

// A Store is the part of the durable store that Dispatch uses.
type Store interface {
	store.Messages
	store.Inbox
	store.Outbox
	store.Cursors
	ParkOutbox(ctx context.Context, entries []store.ParkedEntry) error
	Sweep(ctx context.Context, now time.Time) (int, error)
	Ping(ctx context.Context) error
}

// Nodes brings entries, questions and orders to nodes; nodeclient.Client does.
// Its errors wrap those of package nodeclient.
type Nodes interface {
	Deliver(ctx context.Context, node push.NodeID, req push.DeliverRequest) (push.DeliverAnswer, error)
	Info(ctx context.Context, node push.NodeID, req push.InfoRequest) (push.InfoAnswer, error)
	Status(ctx context.Context, node push.NodeID) (push.NodeStatus, error)
	Disconnect(ctx context.Context, node push.NodeID, req push.DisconnectRequest) (push.DisconnectAnswer, error)
	Revoke(ctx context.Context, node push.NodeID, req push.RevokeRequest) (push.DisconnectAnswer, error)
	Subscribe(ctx context.Context, node push.NodeID, req push.SubscribeRequest) (push.SubscriptionAnswer, error)
	Unsubscribe(ctx context.Context, node push.NodeID, req push.UnsubscribeRequest) (push.SubscriptionAnswer, error)
}

// A Config holds what may be tuned. Zero values stand for the defaults.
type Config struct {
	Deadline    time.Duration // for one request as a whole, counted from when it came; 10 s
	PushTime    time.Duration // for each node's answer; 1 s
	AskTime     time.Duration // for a question to all nodes as a whole, each has PushTime; 3 s
	SkipTime    time.Duration // how long a node that did not answer in time is left out; 1 s
	Fanout      int           // nodes asked at once for one request; 64
	Concurrency int           // requests, or batches of small ones, handled at once; more wait; 64
	BatchItems  int           // places taken at once: a larger request goes in parts, in order; 10,000

	OutboxEvery time.Duration // between looks at the outbox; 1 s
	OutboxLimit int           // entries claimed at once, of each kind; 500
	// OutboxBytes bounds the messages that a look at the outbox loads, with their
	// recipients, but for the last ones of them; 32 MiB. What is beyond goes back
	// untried, for the next look.
	OutboxBytes int
	// OutboxClaim is how long a claim lasts; 5 s. What waits behind entries that a
	// process claimed before it died waits so long. A look at the outbox begins
	// nothing new when half of it is over; should it run out all the same, another
	// sweep dispatches the same once more, which changes nothing.
	OutboxClaim time.Duration
	// An entry that has failed ParkAfter times is parked if other messages get
	// through meanwhile; else something larger is broken, which is not its fault,
	// and it is parked after ParkAtLast times. 12, and 100, which takes 70 minutes
	// and the time of the tries.
	ParkAfter  int
	ParkAtLast int
	SweepEvery time.Duration // between sweeps of what has outlived its time; 10 min
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	num := func(d *int, v int) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.Deadline, 10*time.Second)
	set(&c.PushTime, time.Second)
	set(&c.AskTime, 3*time.Second)
	set(&c.SkipTime, time.Second)
	num(&c.Fanout, 64)
	num(&c.Concurrency, 64)
	num(&c.BatchItems, 10_000)
	set(&c.OutboxEvery, time.Second)
	num(&c.OutboxLimit, 500)
	num(&c.OutboxBytes, 32<<20)
	num(&c.ParkAfter, 12)
	num(&c.ParkAtLast, 100)
	set(&c.OutboxClaim, 5*time.Second)
	set(&c.SweepEvery, 10*time.Minute)
	return c
}

// A Handler is Dispatch. Make one with [New].
type Handler struct {
	cfg     Config
	reg     Registry
	store   Store
	nodes   Nodes
	log     *slog.Logger
	metrics *metrics
	outbox  telemetry.Lapse // looks at the outbox, for the log
	swept   telemetry.Lapse // sweeps of the store, likewise
	placed  telemetry.Lapse // batches, likewise
	cursors telemetry.Lapse // cursors of nodes, likewise
	misses  misses
	reached reached
	slots   chan struct{} // holds a token for each request, or batch of small ones, under way

	gathering *gathering
	whole     deadlines // of a batch of small requests
	pushes    deadlines // of a node's answer
	running   running   // what Wait waits for

	confirmed atomic.Int64 // when a message was last confirmed, in nanoseconds of reg.Now
	claims    atomic.Int64 // how many entries of each kind the next look at the outbox claims
}

// New returns Dispatch on its collaborators, which stay the caller's to close.
// It does no I/O and starts nothing.
func New(cfg Config, reg Registry, st Store, nodes Nodes, log *slog.Logger, prom prometheus.Registerer) (*Handler, error) {
	if reg == nil || st == nil || nodes == nil || log == nil {
		return nil, errors.New("dispatchfn: registry, store, nodes and log are required")
	}
	cfg = cfg.withDefaults()
	h := &Handler{
		cfg: cfg, reg: reg, store: st, nodes: nodes, log: log, metrics: newMetrics(prom),
		outbox:  telemetry.Lapse{What: "look at the outbox"},
		swept:   telemetry.Lapse{What: "sweep of the store"},
		placed:  telemetry.Lapse{What: "dispatch of messages"},
		cursors: telemetry.Lapse{What: "write of nodes' cursors"},
		misses:  misses{byNode: make(map[push.NodeID]miss)},
		reached: reached{at: make(map[push.NodeID]time.Time)},
		slots:   make(chan struct{}, cfg.Concurrency),
		whole:   deadlines{after: cfg.Deadline},
		pushes:  deadlines{after: cfg.PushTime},
	}
	h.claims.Store(int64(cfg.OutboxLimit))
	h.gathering = newGathering(cfg.BatchItems, h.fresh(), h.whole.least())
	return h, nil
}

// Wait returns when nothing of any request that came before runs any more,
// Config.Deadline after the last one came at the latest if nothing hangs that is
// told to end. Whoever closes the collaborators calls it before.
func (h *Handler) Wait() { h.running.wait() }

// Public returns the handler of Dispatch's port: POST /v1/dispatch, and the
// questions info, disconnect, revoke, nodes, subscribe and unsubscribe below it,
// for callers whose signature is good, /healthz and /readyz for anybody.
func (h *Handler) Public(callers *signature.Verifier) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/dispatch", signature.Require(callers, MaxBody, h))
	mux.Handle("POST /v1/dispatch/cursors", signature.Require(callers, MaxBody, http.HandlerFunc(h.keepCursors)))
	questions := http.NewServeMux()
	questions.HandleFunc("POST /v1/dispatch/info", h.info)
	questions.HandleFunc("POST /v1/dispatch/disconnect", h.disconnect)
	questions.HandleFunc("POST /v1/dispatch/revoke", h.revoke)
	questions.HandleFunc("POST /v1/dispatch/nodes", h.listNodes)
	questions.HandleFunc("POST /v1/dispatch/subscribe", h.subscribe)
	questions.HandleFunc("POST /v1/dispatch/unsubscribe", h.unsubscribe)
	mux.Handle("POST /v1/dispatch/", signature.Require(callers, maxQuestion, questions))
	health := serve.Health(h.log,
		serve.Check{Name: "redis", Probe: h.reg.Ready},
		serve.Check{Name: "store", Probe: h.store.Ping})
	mux.Handle("GET /healthz", health)
	mux.Handle("GET /readyz", health)
	return mux
}

// ServeHTTP answers POST /v1/dispatch, whoever asks. The answer has a result for
// each message; when it is given, all that is the request's own is done. Of a
// request that went together with others some more may run: see [Handler.Wait].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req push.DispatchRequest
	body, p := serve.Body(w, r, MaxBody)
	if p == nil {
		p = decodeRequest(body, &req)
	}
	if p != nil {
		serve.Problem(w, r, p)
		return
	}
	if len(req.Messages) == 0 || len(req.Messages) > MaxMessages {
		serve.Problem(w, r, push.NewProblem(push.CodeBadRequest, "messages holds %d, not 1 to %d", len(req.Messages), MaxMessages))
		return
	}
	messages := make([]*push.Message, len(req.Messages))
	answer := push.DispatchAnswer{Results: make([]push.DispatchResult, len(req.Messages))}
	for i := range req.Messages {
		messages[i] = &req.Messages[i]
		answer.Results[i].ID = messages[i].ID
	}
	for i, p := range h.Dispatch(r.Context(), messages, req.Again) {
		answer.Results[i].Problem = p
	}
	if text, ok := appendAnswer(nil, &answer); ok {
		serve.JSONText(w, http.StatusOK, text)
		return
	}
	serve.JSON(w, http.StatusOK, answer)
}

// Dispatch takes messages in their order and returns a problem for each that is
// not confirmed, nil for the others. again says that any of them may have been
// dispatched before. It does not change the messages, and does not read them any
// more when it has returned. It returns Config.Deadline after it was called, if
// nothing hangs that is told to end, or when ctx ends, unless it is in a batch with
// others by then: it ends with that.
func (h *Handler) Dispatch(ctx context.Context, messages []*push.Message, again bool) []*push.Problem {
	h.running.add()
	defer h.running.done()
	if !again {
		if c, ok := newCall(messages, h.cfg.BatchItems); ok {
			return h.together(ctx, c)
		}
	}
	problems, _ := h.dispatch(ctx, messages, again)
	return problems
}

// dispatch is Dispatch, and returns too how many of messages were tried: the
// others have nothing to do with their problem.
func (h *Handler) dispatch(ctx context.Context, messages []*push.Message, again bool) (problems []*push.Problem, tried int) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Deadline)
	defer cancel()
	problems = make([]*push.Problem, len(messages))
	if !h.enter(ctx) {
		h.notTried(problems, push.NewProblem(push.CodeUnavailable, "too much is being dispatched"))
		return problems, 0
	}
	defer h.leave()
	failed := make(channelSet) // no message may overtake one that a log did not take
	for tried < len(messages) {
		b := &batch{h: h, again: again || time.Since(began) > h.fresh(), failed: failed}
		n := b.take(messages[tried:])
		whole := b.run(ctx)
		copy(problems[tried:], b.problems)
		tried += n
		if !whole {
			h.notTried(problems[tried:], push.NewProblem(push.CodeUnavailable, "not tried: an earlier message failed"))
			break
		}
	}
	h.metrics.seconds.Observe(time.Since(began).Seconds())
	return problems, tried
}

// enter waits for its turn; the caller must call leave. It reports false if ctx
// ended before.
func (h *Handler) enter(ctx context.Context) bool {
	select {
	case h.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// enterAtOnce is enter for whoever does not wait.
func (h *Handler) enterAtOnce() bool {
	select {
	case h.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (h *Handler) leave() { <-h.slots }

// fresh is how long ago a request came that is known to be new: until then who
// sent it does not give up, and have another Dispatch try it.
func (h *Handler) fresh() time.Duration { return min(time.Second, h.cfg.Deadline/4) }

// notTried sets every problem to p.
func (h *Handler) notTried(problems []*push.Problem, p *push.Problem) {
	for i := range problems {
		problems[i] = p
	}
	h.metrics.messages.WithLabelValues(outcomeFailed).Add(float64(len(problems)))
}
