package registry_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

func TestMain(m *testing.M) {
	registry.LogTo(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

// A bench is a registry on a Redis of its own.
type bench struct {
	*registry.Registry
	server *registrytest.Server
	terms  *registrytest.Terms
}

func open(t testing.TB, s *registrytest.Server, terms registry.Terms, cfg registry.Config) *registry.Registry {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute // the machine may be busy with other tests
	}
	r, err := registry.Open(s.URL(), terms, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func newBench(t testing.TB, s *registrytest.Server, cfg registry.Config) bench {
	t.Helper()
	terms := &registrytest.Terms{}
	return bench{open(t, s, terms, cfg), s, terms}
}

// onBoth runs a test on a redis-server and on a miniredis.
func onBoth(t *testing.T, f func(t *testing.T, s *registrytest.Server)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) { f(t, registrytest.Redis(t)) })
	t.Run("miniredis", func(t *testing.T) { f(t, registrytest.Mini(t)) })
}

func message(id string) *push.Message {
	now := time.Now()
	return &push.Message{
		ID: push.MessageID(id), To: push.Recipients{Users: []push.UserID{"42"}},
		Data: []byte(`{"text":"` + id + `"}`), CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

// add appends one message that must be new or a repeat and returns its place.
func (b bench) add(t testing.TB, c push.Channel, id string) registry.AppendedItem {
	t.Helper()
	return b.append(t, registry.Item{Channel: c, Message: message(id)}).Items[0]
}

func (b bench) append(t testing.TB, items ...registry.Item) registry.Appended {
	t.Helper()
	a, err := b.Append(t.Context(), items)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	for i, it := range a.Items {
		if it.Err != nil {
			t.Fatalf("Append item %d: %v", i, it.Err)
		}
	}
	return a
}

func (b bench) read(t testing.TB, q registry.LogQuery) registry.LogPage {
	t.Helper()
	p, err := b.ReadLog(t.Context(), q)
	if err != nil {
		t.Fatalf("ReadLog(%+v): %v", q, err)
	}
	return p
}

func (b bench) term(t testing.TB) push.Term {
	t.Helper()
	term, err := b.Term(t.Context())
	if err != nil {
		t.Fatalf("Term: %v", err)
	}
	return term
}

// asked appends a message of which the inbox knows nothing.
func (b bench) asked(t testing.TB, c push.Channel, id string) registry.AppendedItem {
	t.Helper()
	return b.append(t, registry.Item{Channel: c, Message: message(id), Asked: true}).Items[0]
}

func ids(p registry.LogPage) string {
	s := ""
	for i, e := range p.Entries {
		if i > 0 {
			s += " "
		}
		s += string(e.Message.ID)
	}
	return s
}

// eventually waits until f returns nil. It is for what another process does in
// its own time, such as letting a key expire.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(fmt.Errorf("after a minute: %w", err))
		}
	}
}
