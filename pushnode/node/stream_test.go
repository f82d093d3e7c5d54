package node_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/signature"
)

// openStream asks for a stream at the address of node to, naming named, and
// returns it, or the status and the code of why there is none.
func (c *cluster) openStream(to push.NodeID, named push.NodeID, header http.Header) (*websocket.Conn, int, push.Code) {
	c.t.Helper()
	ws, res, err := websocket.DefaultDialer.Dial("ws://"+to.Addr()+push.StreamPath+"?node="+string(named), header)
	if err == nil {
		c.t.Cleanup(func() { ws.Close() })
		return ws, res.StatusCode, ""
	}
	if res == nil {
		c.t.Fatalf("open a stream: %v", err)
	}
	var p push.Problem
	body, _ := io.ReadAll(res.Body)
	_ = json.Unmarshal(body, &p) // what is no problem has no code
	return nil, res.StatusCode, p.Code
}

func (c *cluster) signed(id string, at time.Time, statement []byte) http.Header {
	c.t.Helper()
	h := make(http.Header)
	if err := signature.NewSigner(c.keys).Sign(h, id, at, statement); err != nil {
		c.t.Fatal(err)
	}
	return h
}

func TestStreamHandshake(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	id := c.nodes[0].id
	other := push.NewNodeID(id.Addr(), "before")
	now := time.Now()
	tests := map[string]struct {
		named  push.NodeID
		header http.Header
		status int
		code   push.Code
	}{
		"signed":                     {id, c.signed("a", now, push.StreamStatement(id)), 101, ""},
		"replayed":                   {id, c.signed("a", now, push.StreamStatement(id)), 401, push.CodeSignatureStale},
		"unsigned":                   {id, nil, 401, push.CodeSignatureInvalid},
		"for another node":           {id, c.signed("b", now, push.StreamStatement(other)), 401, push.CodeSignatureInvalid},
		"for another, and naming it": {other, c.signed("c", now, push.StreamStatement(other)), 409, push.CodeOtherNode},
		"a request's":                {id, c.signed("d", now, nil), 401, push.CodeSignatureInvalid},
		"long ago":                   {id, c.signed("e", now.Add(-time.Hour), push.StreamStatement(id)), 401, push.CodeSignatureStale},
	}
	for _, name := range []string{"signed", "replayed", "unsigned", "for another node", "for another, and naming it", "a request's", "long ago"} {
		tt := tests[name]
		t.Run(name, func(t *testing.T) {
			if _, status, code := c.openStream(id, tt.named, tt.header); status != tt.status || code != tt.code {
				t.Errorf("the handshake was answered %d %q, want %d %q", status, code, tt.status, tt.code)
			}
		})
	}
}

// bring sends frame and returns the answers that come in the next.
func bring(t *testing.T, ws *websocket.Conn, frame []byte) []push.BatchAnswer {
	t.Helper()
	if err := ws.WriteMessage(websocket.BinaryMessage, frame); err != nil {
		t.Fatal(err)
	}
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	_, b, err := ws.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	var answers []push.BatchAnswer
	for len(b) > 0 {
		var part []byte
		if part, b, err = push.NextPart(b); err != nil {
			t.Fatal(err)
		}
		a, err := push.DecodeBatchAnswer(part)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	return answers
}

func TestStreamDelivers(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	n := c.nodes[0]
	a := dial(t, n, "")
	a.connect("42", "")
	ws, _, _ := c.openStream(n.id, n.id, c.signed("a", time.Now(), push.StreamStatement(n.id)))
	var frame []byte
	for i := range 3 { // three batches in one frame
		m := c.message(fmt.Sprint(i + 1))
		at := c.place("#42", m)
		c.keep("#42", m, at)
		frame = push.AppendBatch(frame, uint64(i+10), &push.DeliverRequest{Messages: []push.Message{m}, Entries: []push.DeliverEntry{
			{Channel: "#42", Offset: at.Offset, Prev: at.Prev}, {Channel: "#gone", Offset: at.Offset}}})
	}
	frame = push.AppendBatch(frame, 13, &push.DeliverRequest{Messages: []push.Message{{ID: "x"}}, Entries: []push.DeliverEntry{{Channel: "#42", Offset: 1}}})
	got := bring(t, ws, frame)
	if len(got) != 4 || got[3].Number != 13 || got[3].Code != push.CodeBadRequest {
		t.Fatalf("the node answered %+v, want four answers, the last a refusal", got)
	}
	for i, answer := range got[:3] {
		if answer.Number != uint64(i+10) || answer.Code != "" || len(answer.Unknown) != 1 || answer.Unknown[0] != "#gone" {
			t.Errorf("answer %d = %+v", i, answer)
		}
	}
	if got := a.receive(3); got != "1 2 3" {
		t.Errorf("received %s, want 1 2 3", got)
	}
}

// A frame that is no batch ends the stream, and nothing else.
func TestStreamOfNonsense(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	n := c.nodes[0]
	a := dial(t, n, "")
	a.connect("42", "")
	frames := map[string][]byte{
		"text":        []byte(`{"node":"x"}`),
		"cut off":     push.AppendBatch(nil, 1, &push.DeliverRequest{Beat: true})[:5],
		"long length": {255, 255, 255, 255},
		"no batch":    {0, 0, 0, 1, 200},
		"many":        []byte("\x00\x00\x00\x07\x01\x00\xff\xff\xff\xff\x0f"),
		"long":        []byte(strings.Repeat("x", push.MaxStreamFrame+1)),
	}
	for name, frame := range frames {
		t.Run(name, func(t *testing.T) {
			ws, _, _ := c.openStream(n.id, n.id, c.signed("x"+strings.ReplaceAll(name, " ", "-"), time.Now(), push.StreamStatement(n.id)))
			kind := websocket.BinaryMessage
			if name == "text" {
				kind = websocket.TextMessage
			}
			_ = ws.WriteMessage(kind, frame) // the other side may have closed already
			_ = ws.SetReadDeadline(time.Now().Add(patience))
			if _, b, err := ws.ReadMessage(); err == nil {
				t.Errorf("the node answered %q, want the end of the stream", b)
			}
		})
	}
	c.send("#42", `1`)
	if got := a.receive(1); got != "1" {
		t.Errorf("received %s, want 1", got)
	}
}

// A node that ends ends its streams, whatever they wait for.
func TestStreamEndsWithTheNode(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	n := c.nodes[0]
	ws, _, _ := c.openStream(n.id, n.id, c.signed("a", time.Now(), push.StreamStatement(n.id)))
	bring(t, ws, push.AppendBatch(nil, 1, &push.DeliverRequest{}))
	n.stop()
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := ws.ReadMessage(); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("after the node's end the stream reads %v, want its end", err)
	}
}
