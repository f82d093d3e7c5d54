package post

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(t *testing.T) (*Client, string) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/refuse":
			http.Error(w, "no", http.StatusForbidden)
		case "/chunks":
			for range 3 {
				w.Write(body)
				w.(http.Flusher).Flush()
			}
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Write(body)
		}
	}))
	t.Cleanup(srv.Close)
	c := New(strings.TrimPrefix(srv.URL, "http://"), 3)
	t.Cleanup(c.Close)
	return c, c.addr
}

func request(addr, path, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", path, addr, len(body), body)
}

func TestDo(t *testing.T) {
	long := strings.Repeat("abcdefgh", 8<<10)
	tests := map[string]struct {
		path, body string
		times      int
		want       string
		fails      string
	}{
		"echo":      {path: "/", body: "hello", times: 1, want: "hello"},
		"long":      {path: "/", body: long, times: 1, want: long},
		"chunks":    {path: "/chunks", body: "ab", times: 1, want: "ababab"},
		"no body":   {path: "/empty", times: 1},
		"pipelined": {path: "/", body: "x", times: 5, want: "xxxxx"},
		"refused":   {path: "/refuse", times: 2, fails: "status 403: no"},
	}
	c, addr := newServer(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for range 3 { // a connection serves again, also after a refusal
				var got bytes.Buffer
				err := c.Do(t.Context(), bytes.Repeat(request(addr, tt.path, tt.body), tt.times), tt.times, func(b []byte) error {
					got.Write(b)
					return nil
				})
				if tt.fails == "" && (err != nil || got.String() != tt.want) {
					t.Errorf("Do = %.40q, %v, want %.40q", got.String(), err, tt.want)
				}
				if tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
					t.Errorf("Do: %v, want it to say %q", err, tt.fails)
				}
			}
		})
	}
}

func TestDoFromMany(t *testing.T) {
	c, addr := newServer(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			want := fmt.Sprint("from ", i)
			err := c.Do(t.Context(), request(addr, "/", want), 1, func(b []byte) error {
				if string(b) != want {
					return fmt.Errorf("%q is answered %q", want, b)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gone := New("127.0.0.1:1", 1)
	defer gone.Close()
	if err := gone.Do(ctx, nil, 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Do with an ended context: %v", err)
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 204 No Content\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, body, err := readAnswer(bufio.NewReaderSize(bytes.NewReader(data), maxLine), nil)
		if err == nil && len(body) > len(data) {
			t.Fatalf("a body of %d bytes out of %d", len(body), len(data))
		}
	})
}
