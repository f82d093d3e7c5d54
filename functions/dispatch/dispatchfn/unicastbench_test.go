package dispatchfn_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/nodeclient"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
)

// BenchmarkRequest answers signed requests of one message for one user each, many
// at once, with all that stands around the handler but net/http's server, on
// Redis, without an inbox, for a node that takes everything at once.
func BenchmarkRequest(b *testing.B) {
	c := newCluster(b, dispatchfn.Config{}, nil)
	node := push.NewNodeID("127.0.0.1:1", "first")
	if _, err := c.reg.Grant(b.Context(), registry.Lease{Node: node}); err != nil {
		b.Fatal(err)
	}
	const users = 1000
	for i := range users {
		if err := c.reg.AddRoutes(b.Context(), node, []registry.ChannelRoute{route(push.Channel(fmt.Sprintf("#%d", i)), 1)}); err != nil {
			b.Fatal(err)
		}
	}
	d, err := dispatchfn.New(dispatchfn.Config{}, c.reg, keepsNothing{c.store}, takesAll{}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		b.Fatal(err)
	}
	handler := serve.Wrap("public", d.Public(signature.NewVerifier(signature.VerifierConfig{Now: c.reg.Now}, keys(b))), slog.New(slog.DiscardHandler), nil)
	signer := signature.NewSigner(keys(b))
	var sent atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := sent.Add(1)
			body := fmt.Sprintf(`{"messages":[{"id":"k/%d","to":{"users":["%d"]},"data":"%0128d",`+
				`"created_at":"2999-01-01T00:00:00Z","expires_at":"2999-01-01T01:00:00Z"}]}`, n, n%users, n)
			r := httptest.NewRequest(http.MethodPost, "/v1/dispatch", strings.NewReader(body))
			if err := signer.Sign(r.Header, fmt.Sprintf("req_%d", n), c.reg.Now(), []byte(body)); err != nil {
				b.Error(err)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != http.StatusOK || strings.Contains(w.Body.String(), "problem") {
				b.Errorf("answered %d: %s", w.Code, w.Body)
			}
		}
	})
}

// A keepsNothing is a store whose inbox keeps nothing.
type keepsNothing struct{ store.Store }

func (keepsNothing) WriteInbox(_ context.Context, entries []store.InboxEntry) ([]store.Placement, error) {
	placed := make([]store.Placement, len(entries))
	for i := range entries {
		placed[i].Offset = entries[i].Offset
	}
	return placed, nil
}

// A takesAll is nodes that take what they are brought.
type takesAll struct{ *nodeclient.Client }

func (takesAll) Deliver(_ context.Context, node push.NodeID, _ push.DeliverRequest) (push.DeliverAnswer, error) {
	return push.DeliverAnswer{Node: node}, nil
}
