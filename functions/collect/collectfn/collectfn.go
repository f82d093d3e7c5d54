// Package collectfn is Collect: the public API that business systems send
// messages to.
//
//	POST   /v1/messages                 one message or an array of up to 1,000 → 202
//	GET    /v1/messages/{id...}         what is known of one message, device by device
//	DELETE /v1/messages/{id...}         takes a scheduled message back
//	GET    /v1/users/{id}               a user's connections and devices
//	DELETE /v1/users/{id}/connections   closes them
//	GET    /v1/nodes                    the push nodes that are alive
//	POST   /v1/revocations              has tokens count no more
//	GET    /v1/parked                   what could not be delivered
//	POST   /v1/parked/{id...}/replay    tries it again
//	DELETE /v1/parked/{id...}           gives it up
//	GET    /v1/callbacks                which sources could not be told of which messages
//	POST   /v1/callbacks/{id...}/replay tries it again
//	DELETE /v1/callbacks/{id...}        gives it up
//	POST   /v1/webhooks/{source}        a webhook of a source → 202
//	GET    /v1/sources, /v1/sources/{source}   who may post webhooks, and what becomes of them
//	PUT    /v1/sources/{source}         adds or replaces a source
//	DELETE /v1/sources/{source}         removes it
//	GET    /v1/sources/{source}/deliveries         the webhooks that came, the newest first
//	GET    /v1/sources/{source}/deliveries/{id...} one of them
//	POST   /v1/sources/{source}/deliveries/{id...}/replay   has it go through the rules of now
//	POST   /v1/sources/{source}/replay  the same for many
//	POST   /v1/sources/{source}/dry-run what other rules would make of them
//	POST   /api/{method}, /api          the server API of Centrifugo
//	GET    /healthz, /readyz
//
// The path of a message: it is checked; stored durably; handed to Dispatch; and
// where Dispatch did not confirm it, or an earlier message of a channel of its
// own waits there, put into the outbox, from which a sweep hands it off later.
// Only then is it accepted. A message that is sent again
// under its id is handed off again, because its first try may have died between
// store and hand-off, and is answered as it was the first time.
package collectfn

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/functions/collect/address"
	"pushcluster/functions/collect/limit"
	"pushcluster/shared/push"
	"pushcluster/shared/secret"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
	"pushcluster/shared/telemetry"
)

// Limits of a request.
const (
	MaxBody  = 1 << 20 // bytes
	MaxBatch = 1000    // messages in one array
)

// Config says who may send, and tunes the rest.
type Config struct {
	Keys      secret.Keys      // of who may send; at least one
	Questions Questions        // nil: what needs nodes is answered 503
	Sources   Sources          // of webhooks; nil: there are none
	Stored    StoredSources    // those of Sources that the API may change; nil: none
	Limits    Limits           // judges requests; nil: a limit is of this process alone
	KeyLimits limit.Keys       // how often the holders of Keys may ask
	Proxies   address.Prefixes // whose X-Forwarded-For tells where a request comes from
	Now       func() time.Time // nil means time.Now
	Chance    func() float64   // a number from 0 to 1, 1 not included; nil means rand.Float64
}

// A Store is the part of the durable store that Collect uses: its first part for
// messages on their way in, the second for questions and orders about them.
type Store interface {
	store.Messages
	PutOutbox(ctx context.Context, entries []store.OutboxEntry) error
	AnyBacklog(ctx context.Context) (bool, error)
	Backlog(ctx context.Context, channels []push.Channel) (map[push.Channel]bool, error)
	Ping(ctx context.Context) error

	PlacedAt(ctx context.Context, id push.MessageID, channels []push.Channel) (map[push.Channel]push.Offset, error)
	Places(ctx context.Context, id push.MessageID, channels []push.Channel) (map[push.Channel]store.Place, error)
	LoadOutbox(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.OutboxRecord, error)
	CancelOutbox(ctx context.Context, id push.MessageID, at, until time.Time) (bool, error)
	store.Parking
	ListDevices(ctx context.Context, q store.DevicesQuery) ([]store.DeviceState, error)
	LoadUserCursors(ctx context.Context, user push.UserID, limit int) ([]store.Cursor, error)
	AddRevocation(ctx context.Context, r push.Revocation, now time.Time, most int) error
	PutSource(ctx context.Context, r store.SourceRecord, most int) error
	RemoveSource(ctx context.Context, name string) (bool, error)
	store.Deliveries
	PutCallbacks(ctx context.Context, entries []store.Callback) error
	ListCallbacks(ctx context.Context, q store.CallbacksQuery) ([]store.Callback, error)
	ReplayCallback(ctx context.Context, id push.MessageID, due time.Time) (bool, error)
	DiscardCallback(ctx context.Context, id push.MessageID) (bool, error)
}

// A Handoff brings messages to Dispatch, in their order, and returns one error
// for each: nil if Dispatch has confirmed it. It has a deadline of its own.
// Ordered reports whether what is handed off later also comes later to Dispatch;
// else nobody's order is kept. Errors of package handoff say that Dispatch did
// not answer.
type Handoff interface {
	HandOff(ctx context.Context, messages []push.Message, again bool) []error
	Ordered() bool
}

// A Handler answers Collect's requests.
type Handler struct {
	cfg     Config
	store   Store
	handoff Handoff
	log     *slog.Logger
	metrics *metrics
	mux     *http.ServeMux

	dispatch, outbox, kept, questions, deliveries, callbacks, backlog, limits telemetry.Lapse // what is away at the moment, for the log

	refused refusals
	long    chan struct{} // holds one for each long order under way
	look    look          // for a backlog
	breaker breaker       // of hand-offs
}

// New returns Collect's handler. It does no I/O and starts nothing.
func New(cfg Config, st Store, handoff Handoff, log *slog.Logger, reg prometheus.Registerer) (*Handler, error) {
	if cfg.Keys.Len() == 0 {
		return nil, errors.New("collectfn: Config.Keys is empty: nobody could send")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Limits == nil {
		cfg.Limits = limit.NewLocal(cfg.Now)
	}
	if cfg.Chance == nil {
		cfg.Chance = rand.Float64
	}
	h := &Handler{
		cfg: cfg, store: st, handoff: handoff, log: log,
		metrics: newMetrics(reg), mux: http.NewServeMux(), long: make(chan struct{}, longAtOnce),
	}
	h.dispatch.What, h.outbox.What, h.kept.What, h.questions.What = "hand-off to dispatch", "outbox", "store", "questions to dispatch"
	h.deliveries.What, h.callbacks.What = "store of deliveries", "store of callbacks"
	h.backlog.What = "look for a backlog in the outbox"
	h.limits.What = "limits; requests pass unjudged"
	// Dispatch being away does not make Collect unready: there is the outbox.
	health := serve.Health(log, serve.Check{Name: "store", Probe: st.Ping})
	h.mux.Handle("GET /healthz", health)
	h.mux.Handle("GET /readyz", health)
	h.mux.HandleFunc("POST /v1/messages", h.post)
	h.mux.HandleFunc("GET /v1/messages/{id...}", h.get)
	h.mux.HandleFunc("DELETE /v1/messages/{id...}", h.cancel)
	h.mux.HandleFunc("POST /v1/webhooks/{source}", h.webhook)
	h.mux.HandleFunc("OPTIONS /v1/webhooks/{source}", h.handshake)
	h.mux.HandleFunc("GET /v1/sources", h.listSources)
	h.mux.HandleFunc("GET /v1/sources/{source}", h.getSource)
	h.mux.HandleFunc("PUT /v1/sources/{source}", h.putSource)
	h.mux.HandleFunc("DELETE /v1/sources/{source}", h.deleteSource)
	h.mux.HandleFunc("GET /v1/sources/{source}/deliveries", h.listDeliveries)
	h.mux.HandleFunc("GET /v1/sources/{source}/deliveries/{id...}", h.getDelivery)
	h.mux.HandleFunc("POST /v1/sources/{source}/deliveries/{rest...}", h.replayDelivery)
	h.mux.HandleFunc("POST /v1/sources/{source}/replay", h.replayRange)
	h.mux.HandleFunc("POST /v1/sources/{source}/dry-run", h.dryRun)
	h.mux.HandleFunc("GET /v1/users/{id}", h.user)
	h.mux.HandleFunc("DELETE /v1/users/{id}/connections", h.kick)
	h.mux.HandleFunc("GET /v1/nodes", h.listNodes)
	h.mux.HandleFunc("POST /v1/revocations", h.revoke)
	h.mux.HandleFunc("POST /api", h.apiLines)
	h.mux.HandleFunc("POST /api/{$}", h.apiLines)
	h.mux.HandleFunc("POST /api/{method}", h.apiMethod)
	h.mux.HandleFunc("GET /v1/parked", h.parked)
	h.mux.HandleFunc("POST /v1/parked/{rest...}", h.replay)
	h.mux.HandleFunc("DELETE /v1/parked/{id...}", h.discard)
	h.mux.HandleFunc("GET /v1/callbacks", h.listCallbacks)
	h.mux.HandleFunc("POST /v1/callbacks/{rest...}", h.replayCallback)
	h.mux.HandleFunc("DELETE /v1/callbacks/{id...}", h.discardCallback)
	// These have other methods below them, to which the mux would send who asks.
	h.mux.HandleFunc("/v1/messages", only("POST"))
	h.mux.HandleFunc("/v1/parked", only("GET, HEAD"))
	h.mux.HandleFunc("/v1/callbacks", only("GET, HEAD"))
	h.mux.HandleFunc("/v1/sources/{source}/deliveries", only("GET, HEAD"))
	return h, nil
}

// only answers 405 at a path that takes the methods allow, and those alone.
func only(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		serve.Problem(w, r, push.NewProblem(push.CodeMethodNotAllowed, "this path answers %s", allow))
	}
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// now is the present as messages keep it: in UTC and whole milliseconds.
func (h *Handler) now() time.Time { return h.cfg.Now().UTC().Truncate(time.Millisecond) }

// refuse answers with a problem and counts it.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, p *push.Problem) {
	h.metrics.refused.WithLabelValues(string(p.Code)).Inc()
	serve.Problem(w, r, p)
}

// holder returns the name of the API key that r carries; ok is false if it has
// none that counts, or asks too often, and r is answered.
func (h *Handler) holder(w http.ResponseWriter, r *http.Request) (name string, ok bool) {
	name, ok = h.cfg.Keys.Holder(r.Header)
	if !ok {
		h.refuse(w, r, push.NewProblem(push.CodeUnauthorized, "send an API key in X-API-Key or Authorization: Bearer"))
		return "", false
	}
	if p := h.within(w, r, limitOfKey, name, h.cfg.KeyLimits.Of(name)); p != nil {
		h.refuse(w, r, p)
		return "", false
	}
	return name, true
}
