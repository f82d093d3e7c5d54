package node_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/gorilla/websocket"

	"pushcluster/shared/push"
)

// A wsClient is a client without an SDK: it says exactly what the test says.
// It speaks JSON.
type wsClient struct {
	t       *testing.T
	ws      *websocket.Conn
	pending []*protocol.Reply
	pubs    []*protocol.Publication // publications seen while waiting for something else
	mute    bool                    // does not answer pings
}

// dial opens a connection to n with the given query.
func dial(t *testing.T, n *testNode, query string) *wsClient {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(n.public.URL, "http")+"/connection/websocket?"+query, nil)
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, resp)
	}
	c := &wsClient{t: t, ws: ws}
	t.Cleanup(func() { ws.Close() })
	return c
}

// refused opens a connection that is refused, and returns the answer's status
// and problem code.
func refused(t *testing.T, n *testNode, query string, header http.Header) (int, push.Code) {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(n.public.URL, "http")+"/connection/websocket?"+query, header)
	if err == nil {
		ws.Close()
		t.Fatal("the handshake was not refused")
	}
	if resp == nil {
		t.Fatalf("no answer: %v", err)
	}
	var p push.Problem
	json.NewDecoder(resp.Body).Decode(&p)
	return resp.StatusCode, p.Code
}

func (c *wsClient) write(frame string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// next returns the next reply that is not a ping; pings are answered.
func (c *wsClient) next() (*protocol.Reply, error) {
	for {
		r, err := c.hear()
		if err != nil || !isPing(r) {
			return r, err
		}
		if !c.mute {
			// The node may have closed already; what comes next tells.
			_ = c.ws.WriteMessage(websocket.TextMessage, []byte("{}"))
		}
	}
}

func isPing(r *protocol.Reply) bool { return r.Id == 0 && r.Push == nil }

// hear returns the next reply, whatever it is.
func (c *wsClient) hear() (*protocol.Reply, error) {
	for len(c.pending) == 0 {
		c.ws.SetReadDeadline(time.Now().Add(patience))
		_, frame, err := c.ws.ReadMessage()
		if err != nil {
			return nil, err
		}
		for line := range strings.SplitSeq(string(frame), "\n") {
			var r protocol.Reply
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return nil, fmt.Errorf("reply %q: %w", line, err)
			}
			c.pending = append(c.pending, &r)
		}
	}
	r := c.pending[0]
	c.pending = c.pending[1:]
	return r, nil
}

// reply returns the answer to the command id; publications before it are kept.
func (c *wsClient) reply(id uint32) *protocol.Reply {
	c.t.Helper()
	for {
		r, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for reply %d: %v", id, err)
		}
		if r.Id == id {
			return r
		}
		if r.Push != nil && r.Push.Pub != nil {
			c.pubs = append(c.pubs, r.Push.Pub)
		}
	}
}

// connect sends a connect command for the token, with more fields of it.
func (c *wsClient) connect(token, more string) *protocol.ConnectResult {
	c.t.Helper()
	c.write(fmt.Sprintf(`{"id":1,"connect":{"token":%q%s}}`, token, more))
	r := c.reply(1)
	if r.Connect == nil {
		c.t.Fatalf("connect was answered %+v", r)
	}
	return r.Connect
}

// publication returns the next publication.
func (c *wsClient) publication() *protocol.Publication {
	c.t.Helper()
	if len(c.pubs) > 0 {
		p := c.pubs[0]
		c.pubs = c.pubs[1:]
		return p
	}
	for {
		r, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for a publication: %v", err)
		}
		if r.Push != nil && r.Push.Pub != nil {
			return r.Push.Pub
		}
	}
}

// receive returns the data of the next n publications, joined by spaces.
func (c *wsClient) receive(n int) string {
	c.t.Helper()
	var data []string
	for range n {
		data = append(data, string(c.publication().Data))
	}
	return strings.Join(data, " ")
}

// closed waits until the node closes the connection and returns the code.
func (c *wsClient) closed() int {
	c.t.Helper()
	for {
		_, err := c.next()
		if ce, ok := errors.AsType[*websocket.CloseError](err); ok {
			return ce.Code
		}
		if err != nil {
			c.t.Fatalf("waiting for a close frame: %v", err)
		}
	}
}

// data returns the data of publications, joined by spaces.
func data(pubs []*protocol.Publication) string {
	var all []string
	for _, p := range pubs {
		all = append(all, string(p.Data))
	}
	return strings.Join(all, " ")
}

// position returns the subs of a connect command that recovers channel.
func position(channel string, offset uint64, epoch string) string {
	return fmt.Sprintf(`,"subs":{%q:{"recover":true,"offset":%d,"epoch":%q}}`, channel, offset, epoch)
}

func ascending(pubs []*protocol.Publication) bool {
	return slices.IsSortedFunc(pubs, func(a, b *protocol.Publication) int {
		if a.Offset < b.Offset {
			return -1
		}
		return 1
	})
}
