package callback

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
	"pushcluster/shared/store/sqlitestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a secret that callbacks are signed with"

// loopback is where the tests' receivers are.
func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

var start = time.Date(2030, 1, 31, 9, 30, 0, 0, time.UTC)

// A posted is a callback as its receiver got it.
type posted struct {
	id   string
	body body
}

// A rig is a sweeper on a real store, with a real receiver that verifies what it
// gets.
type rig struct {
	t       *testing.T
	store   *faultyStore
	sweeper *Sweeper
	reg     *prometheus.Registry
	logged  *bytes.Buffer
	server  *httptest.Server

	mu     sync.Mutex // guards what follows
	clock  time.Time
	set    *source.Set
	live   *source.Live // in place of set, if it is not nil
	got    []posted
	answer func(http.ResponseWriter, *http.Request) // nil: 200
}

// A faultyStore is a real store that can be made to forget to keep callbacks, as
// a process does that dies.
type faultyStore struct {
	store.Store
	dead bool
}

func (s *faultyStore) KeepCallbacks(ctx context.Context, entries []store.Callback) error {
	if s.dead {
		return store.ErrUnavailable
	}
	return s.Store.KeepCallbacks(ctx, entries)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, clock: start, logged: &bytes.Buffer{}, reg: prometheus.NewRegistry()}
	st, err := sqlitestore.Open(filepath.Join(t.TempDir(), "store"), sqlitestore.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if err := st.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.store = &faultyStore{Store: st}
	r.server = httptest.NewServer(http.HandlerFunc(r.receive))
	t.Cleanup(r.server.Close)
	r.listen("")
	r.sweeper = r.newSweeper(PosterConfig{Allow: loopback()}, r.reg)
	return r
}

func (r *rig) newSweeper(cfg PosterConfig, reg prometheus.Registerer) *Sweeper {
	cfg.Now = r.now
	cfg.Timeout = cmp.Or(cfg.Timeout, time.Minute) // the machine may be slow
	poster := NewPoster(cfg)
	r.t.Cleanup(poster.Close)
	return New(Config{Now: r.now}, r.store, r, poster, slog.New(slog.NewJSONHandler(r.logged, nil)), reg)
}

// listen has the source shop be told at the rig's server; more are further
// fields of its callback.
func (r *rig) listen(more string) { r.listenAt(r.server.URL+"/hook", more) }

func (r *rig) listenAt(url, more string) {
	r.t.Helper()
	file := "sources:\n  shop:\n    verify: gitlab\n    secrets: x\n    rules: {to: {all: true}}\n"
	if url != "" {
		file += "    callback: {url: '" + url + "', secrets: " + secret + more + "}\n"
	}
	compiler, err := rule.NewCompiler()
	if err != nil {
		r.t.Fatal(err)
	}
	set, err := source.Parse(r.t.Context(), []byte(file), compiler, func(_ context.Context, v string) (string, error) { return v, nil })
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = set
}

// Set makes the rig the sweeper's sources.
func (r *rig) Set(ctx context.Context) *source.Set {
	r.mu.Lock()
	set, live := r.set, r.live
	r.mu.Unlock()
	if live != nil {
		return live.Set(ctx)
	}
	return set
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock
}

// at sets the clock to d after start.
func (r *rig) at(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = start.Add(d)
}

// answers sets how the receiver answers from now on.
func (r *rig) answers(answer func(http.ResponseWriter, *http.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func (r *rig) receive(w http.ResponseWriter, req *http.Request) {
	text, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	keys, err := signature.ParseKeys([]string{secret})
	if err != nil {
		r.t.Error(err)
	}
	stamp, err := signature.NewVerifier(signature.VerifierConfig{}, keys).Verify(req.Header, text, r.now())
	if err != nil {
		r.t.Errorf("the callback's signature: %v", err)
	}
	p := posted{id: stamp.ID}
	if err := json.Unmarshal(text, &p.body); err != nil || req.Header.Get("Content-Type") != "application/json" || req.URL.Path != "/hook" {
		r.t.Errorf("posted to %s: %s %s, %v", req.URL, req.Header.Get("Content-Type"), text, err)
	}
	r.mu.Lock()
	answer := r.answer
	r.got = append(r.got, p)
	r.mu.Unlock()
	if answer != nil {
		answer(w, req)
	}
}

// told returns what the receiver has got since the last call.
func (r *rig) told() []posted {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}

// sweep looks at what is due until nothing is.
func (r *rig) sweep() {
	r.t.Helper()
	if err := r.sweeper.RunSchedule(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// accept stores a message of shop for to, which lives an hour, with its
// callback.
func (r *rig) accept(id push.MessageID, to push.Recipients) {
	r.t.Helper()
	now := r.now()
	m := store.Record{Message: push.Message{ID: id, To: to, Event: "order.paid", Data: json.RawMessage(`1`), CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, Fingerprint: "f"}
	if _, err := r.store.InsertMessages(r.t.Context(), []store.Record{m}); err != nil {
		r.t.Fatal(err)
	}
	if err := r.store.PutCallbacks(r.t.Context(), []store.Callback{
		{Message: id, Source: "shop", DueAt: FirstLook(now), Until: m.ExpiresAt.Add(push.RepeatWindow)}}); err != nil {
		r.t.Fatal(err)
	}
}

// place gives a message its offset in a channel.
func (r *rig) place(id push.MessageID, channel push.Channel, offset push.Offset, key string) {
	r.t.Helper()
	_, err := r.store.WriteInbox(r.t.Context(), []store.InboxEntry{{Channel: channel, Offset: offset, Message: id, CollapseKey: key, ExpiresAt: r.now().Add(time.Hour)}})
	if err != nil {
		r.t.Fatal(err)
	}
}

// move moves the cursor of a device of user.
func (r *rig) move(user push.UserID, device push.Device, channel push.Channel, received, acknowledged push.Offset) {
	r.t.Helper()
	err := r.store.AdvanceCursors(r.t.Context(), []store.Cursor{{User: user, Device: device, Channel: channel,
		Received: received, Acknowledged: acknowledged, UpdatedAt: r.now()}})
	if err != nil {
		r.t.Fatal(err)
	}
}

// parked returns what is parked.
func (r *rig) parked() []store.Callback {
	r.t.Helper()
	list, err := r.store.ListCallbacks(r.t.Context(), store.CallbacksQuery{})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// names returns the events that were told, each with its channel.
func names(list []posted) string {
	var texts []string
	for _, p := range list {
		texts = append(texts, strings.TrimPrefix(p.body.Type, "message.")+" "+string(p.body.Data.Channel))
	}
	return strings.Join(texts, ", ")
}
