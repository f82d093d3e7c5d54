package node_test

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/node"
)

// TestSlowClientIsClosedAndRecovers: whoever reads too little is told why it is
// closed, gets the rest when it comes back, and holds up nobody.
func TestSlowClientIsClosedAndRecovers(t *testing.T) {
	for why, tt := range map[string]struct {
		cfg    node.Config
		reason string
	}{
		"its queue is full":   {node.Config{QueueBytes: 64 << 10}, "queue_full"},
		"it takes nothing in": {node.Config{QueueBytes: 64 << 20, WriteTimeout: 200 * time.Millisecond}, "write_timeout"},
	} {
		t.Run(why, func(t *testing.T) {
			cfg := tt.cfg
			cfg.SlowTimeout, cfg.CloseTimeout, cfg.PingInterval = 5*time.Minute, 5*time.Minute, time.Hour
			c := newCluster(t, cfg, 1)
			slow, quick := dial(t, c.nodes[0], ""), dial(t, c.nodes[0], "")
			epoch := slow.connect("42", "").Subs["#42"].Epoch
			quick.connect("42", "")
			big := `"` + strings.Repeat("x", 60<<10) + `"`
			slow.ws.NetConn().(*net.TCPConn).SetReadBuffer(64 << 10)
			const count = 100 // 6 MB: more than the kernel's buffers take then
			var sent []uint64
			for range count {
				sent = append(sent, uint64(c.send("#42", big)))
				if got := quick.publication().Offset; got != sent[len(sent)-1] {
					t.Fatalf("the quick neighbour received offset %d, want the last of %d", got, sent)
				}
			}
			eventually(t, "the client counts as slow", func() bool { return c.nodes[0].Slow(tt.reason) > 0 })
			closed, received := 0, []uint64{}
			for len(received) < count {
				r, err := slow.next()
				switch {
				case websocket.IsCloseError(err, 3008):
					// More than once where the machine is slow too.
					closed++
					slow = dial(t, c.nodes[0], "")
					for _, p := range slow.connect("42", position("#42", received[len(received)-1], epoch)).Subs["#42"].Publications {
						received = append(received, p.Offset)
					}
				case err != nil:
					t.Fatalf("after %d messages, closed %d times: %v, want 3008", len(received), closed, err)
				case r.Push.GetPub() != nil:
					received = append(received, r.Push.Pub.Offset)
				}
			}
			if !slices.Equal(received, sent) {
				t.Errorf("received %d, want %d", received, sent)
			}
			if closed == 0 {
				t.Error("the slow client was never closed")
			}
		})
	}
}
