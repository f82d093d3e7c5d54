package mongostore_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
	"pushcluster/shared/store/mongostore"
)

// TestServerAway calls a store whose server is not there, or takes connections
// and says nothing: every call ends in time as unavailable.
func TestServerAway(t *testing.T) {
	tests := map[string]func(t *testing.T) (addr string){
		"refuses": func(t *testing.T) string {
			return "127.0.0.1:1" // which systems give to nobody
		},
		"is silent": func(t *testing.T) string {
			l := listen(t)
			var accepting sync.WaitGroup
			accepting.Go(func() {
				var conns []net.Conn
				for {
					conn, err := l.Accept()
					if err != nil {
						break
					}
					conns = append(conns, conn)
				}
				for _, conn := range conns {
					_ = conn.Close()
				}
			})
			t.Cleanup(func() { _ = l.Close(); accepting.Wait() })
			return l.Addr().String()
		},
	}
	for name, server := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := mongostore.Open("mongodb://ann:hunter2@"+server(t)+"/db", mongostore.Config{Timeout: 300 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			for call, run := range map[string]func(context.Context) error{
				"Ping":    s.Ping,
				"Prepare": s.Prepare,
				"InsertMessages": func(ctx context.Context) error {
					_, err := s.InsertMessages(ctx, []store.Record{{Message: push.Message{ID: "m"}}})
					return err
				},
				"ReadInbox": func(ctx context.Context) error {
					_, err := s.ReadInbox(ctx, store.InboxQuery{Channel: "c"})
					return err
				},
				"AdvanceCursors": func(ctx context.Context) error {
					return s.AdvanceCursors(ctx, []store.Cursor{{User: "u", Device: "d", Channel: "c"}})
				},
				"Term": func(ctx context.Context) error { _, err := s.Term(ctx); return err },
			} {
				start := time.Now()
				if err := run(t.Context()); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%s: %v, want %v", call, err, store.ErrUnavailable)
				}
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("%s took %v", call, took)
				}
			}
		})
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
