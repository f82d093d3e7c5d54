package follow

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

func TestAddress(t *testing.T) {
	tests := map[string]struct {
		url, want string // want empty: an error
	}{
		"base URL":       {"http://127.0.0.1:8711", "ws://127.0.0.1:8711/connection/websocket"},
		"with a slash":   {"https://push.example.com/", "wss://push.example.com/connection/websocket"},
		"its endpoint":   {"wss://push.example.com/connection/websocket", "wss://push.example.com/connection/websocket"},
		"behind a path":  {"ws://example.com/push?a=b", "ws://example.com/push?a=b"},
		"no scheme":      {"127.0.0.1:8711", ""},
		"another scheme": {"ftp://127.0.0.1", ""},
		"nothing":        {"", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Address(tt.url)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("Address(%q) = %q, %v, want %q", tt.url, got, err, tt.want)
			}
		})
	}
}

// A node that takes its time to open a connection is waited for.
func TestRunWaitsForTheHandshake(t *testing.T) {
	n := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(1500 * time.Millisecond): // what is slow is the subject
			w.WriteHeader(http.StatusTeapot)
		case <-r.Context().Done():
		}
	}))
	defer n.Close()
	token := func(context.Context) (string, error) { return "token", nil }
	err := Run(t.Context(), Config{Node: n.URL, Token: token}, func(Message) error { return nil }, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "bad handshake") {
		t.Errorf("Run = %v, want that the node answered", err)
	}
}

// newNode returns a node that opens every socket and answers the first frame with text. It ends
// with t.
func newNode(t *testing.T, text string) *httptest.Server {
	n := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(accept[:]))
		rw.Flush()
		if _, err := rw.ReadByte(); err != nil {
			return // it left before its connect command
		}
		rw.Write(append([]byte{0x81, byte(len(text))}, text...))
		rw.Flush()
		io.Copy(io.Discard, rw) // until the client leaves
	}))
	t.Cleanup(n.Close)
	return n
}

// Only a socket that could not be opened says that no node is there.
func TestFirstFailure(t *testing.T) {
	errNoToken := errors.New("no token")
	node := newNode(t, `{"id":1,"error":{"code":109,"message":"token expired"}}`)
	tests := map[string]struct {
		node   string
		tokens []string // those of one call after another; then there is none
		want   error    // of an Unreached the kind
	}{
		"no node":            {"http://127.0.0.1:1", []string{"token"}, &Unreached{}},
		"no token later":     {node.URL, []string{""}, errNoToken},
		"the connect itself": {node.URL, []string{"token"}, &Refused{node.URL, 109, "token expired", false}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			asked := 0
			token := func(context.Context) (string, error) {
				if asked++; asked > len(tt.tokens) {
					return "", errNoToken
				}
				return tt.tokens[asked-1], nil
			}
			err := Run(t.Context(), Config{Node: tt.node, Token: token}, func(Message) error { return nil }, func(string) {})
			if u, ok := errors.AsType[*Unreached](err); ok {
				err = &Unreached{} // what the SDK says is its own
				if u.Node != tt.node {
					t.Errorf("Run names the node %q, want %q", u.Node, tt.node)
				}
			}
			if !reflect.DeepEqual(err, tt.want) {
				t.Errorf("Run = %#v, want %#v", err, tt.want)
			}
		})
	}
}

// Whoever follows for a while only, and gets no token meanwhile, has followed for
// that while.
func TestRunEndsBeforeThereIsAToken(t *testing.T) {
	errNoToken := errors.New("no token")
	tests := map[string]struct {
		ends bool // Run's context, when the token is asked for
		want error
	}{
		"its context ends":  {true, nil},
		"there is no token": {false, errNoToken},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			token := func(context.Context) (string, error) {
				if tt.ends {
					cancel()
				}
				return "", errNoToken
			}
			var notes []string
			err := Run(ctx, Config{Node: "http://127.0.0.1:1", Token: token}, func(Message) error { return nil },
				func(what string) { notes = append(notes, what) })
			if !errors.Is(err, tt.want) {
				t.Errorf("Run = %v, want %v", err, tt.want)
			}
			if told := slices.Contains(notes, "no token: no token"); told != tt.ends {
				t.Errorf("told %q", notes)
			}
		})
	}
}

// Only what was taken is acknowledged: a message that could not be printed is not.
func TestWhatIsAcknowledged(t *testing.T) {
	tests := map[string]struct {
		err  error // of take
		acks map[string]uint64
	}{
		"taken":                     {nil, map[string]uint64{"#42": 7}},
		"taken, and it is the last": {ErrEnough, map[string]uint64{"#42": 7}},
		"not taken":                 {errors.New("no space left on device"), map[string]uint64{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := &follower{
				take: func(Message) error { return tt.err }, ended: make(chan struct{}),
				acks: newAcks(&deafSDK{}, func(string) {}),
			}
			f.publication("#42", centrifuge.Publication{Offset: 7})
			if !maps.Equal(f.acks.offsets, tt.acks) {
				t.Errorf("take = %v: %v is to be acknowledged, want %v", tt.err, f.acks.offsets, tt.acks)
			}
			if f.over != (tt.err != nil) || !errors.Is(f.err, tt.err) {
				t.Errorf("take = %v: over %v, with %v", tt.err, f.over, f.err)
			}
		})
	}
}
