package serve

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// serving runs a server until stop is called, which returns what Run did.
func serving(t testing.TB, s Server) (addr string, stop func() error) {
	t.Helper()
	l, err := Listen(t.Context(), "LISTEN", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	s.Name, s.Listener = "public", l
	go func() { ran <- Run(ctx, quiet(), s) }()
	return l.Addr().String(), func() error {
		cancel()
		return <-ran
	}
}

// An exchange is what a client says on one connection, and hears.
type exchange struct {
	conn net.Conn
	r    *bufio.Reader
}

func dial(t testing.TB, addr string) *exchange {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &exchange{conn, bufio.NewReader(conn)}
}

func (e *exchange) say(t testing.TB, text string) {
	t.Helper()
	if _, err := io.WriteString(e.conn, text); err != nil {
		t.Fatal(err)
	}
}

// A said is an answer, as far as it does not depend on who gives it.
type said struct {
	status int
	header http.Header
	body   string
	close  bool
}

func (s said) String() string {
	return fmt.Sprintf("%d %v %.200q %v", s.status, s.header, s.body, s.close)
}

// hear returns the next answer, false if the connection ended.
func (e *exchange) hear(t testing.TB) (said, bool) {
	t.Helper()
	res, err := http.ReadResponse(e.r, nil)
	if err != nil {
		return said{}, false
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return said{}, false
	}
	if res.StatusCode == http.StatusBadRequest || res.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
		return said{res.StatusCode, nil, "", res.Close}, true // net/http's own words
	}
	if _, err := http.ParseTime(res.Header.Get("Date")); err != nil {
		t.Errorf("the answer has Date %q", res.Header.Get("Date"))
	}
	res.Header.Del("Date")
	res.Header.Del("Content-Length") // net/http sends what is large in chunks
	return said{res.StatusCode, res.Header, string(body), res.Close}, true
}

// echo answers with what it was asked, in the ways that its paths name.
func echo(w http.ResponseWriter, r *http.Request) {
	body, p := Body(w, r, 1<<20)
	if p != nil {
		Problem(w, r, p)
		return
	}
	switch r.URL.Path {
	case "/json":
		JSON(w, http.StatusOK, string(body))
	case "/created":
		w.WriteHeader(http.StatusCreated)
	case "/nothing":
		w.WriteHeader(http.StatusNoContent)
		if _, err := w.Write([]byte("x")); err == nil {
			panic("an answer without a body took one")
		}
	case "/silent":
	case "/last":
		w.Header().Set("Connection", "close")
		w.Write([]byte("bye"))
	case "/page":
		w.Write([]byte("<p>what it is was not said"))
	case "/headers":
		w.Header()["X-Twice"] = []string{"1", "2\r\nX-Smuggled: 1"}
		w.Header().Set("Bad Name", "1")
		w.Write([]byte("x"))
	case "/large":
		w.Write(bytes.Repeat([]byte("x"), 2<<20))
	case "/panic":
		panic("on purpose")
	default:
		fmt.Fprintf(w, "%s %s %s %d %v", r.Method, r.URL, r.Host, r.ContentLength, r.Header.Values("X-A"))
		w.Write(body)
	}
}

// Whoever reads a request, it is answered the same.
func TestPlainIsAnsweredAsNetHTTPDoes(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", echo)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	wrapped := Wrap("public", mux, quiet(), nil)
	plain, stopPlain := serving(t, Server{Handler: wrapped, Plain: true})
	other, stopOther := serving(t, Server{Handler: wrapped})
	post := func(path, body string) string {
		return plainText(path, "X-A: 1\r\nX-A: 2\r\n", fmt.Sprint(len(body)), body)
	}
	const health = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	tests := map[string][]string{
		"one":                      {post("/a", "hello")},
		"one after the other":      {post("/a", "hello"), post("/b", "you"), post("/c", "there")},
		"several at once":          {post("/a", "hello") + post("/b", "you") + post("/c", "there")},
		"JSON":                     {post("/json", "hello")},
		"a status alone":           {post("/created", "x")},
		"nothing to say":           {post("/nothing", "x"), post("/a", "y")},
		"nothing said":             {post("/silent", "x")},
		"of no named type":         {post("/page", "x")},
		"headers that are none":    {post("/headers", "x")},
		"a large answer":           {post("/large", "x"), post("/a", "y")},
		"the last answer":          {post("/last", "x")},
		"a panic":                  {post("/panic", "x"), post("/a", "y")},
		"a large body":             {post("/a", strings.Repeat("x", plainBody)), post("/a", strings.Repeat("x", plainBody+1)), post("/a", "y")},
		"too large a body":         {plainText("/a", "", "2000000", "x")},
		"something else":           {health},
		"something else behind it": {post("/a", "hello"), health, post("/b", "you")},
		"with something else":      {post("/a", "hello") + health + post("/b", "you")},
		"wrong method":             {strings.Replace(post("/healthz", "x"), "POST", "PUT", 1)},
		"no HTTP":                  {"POST / what\r\n\r\n"},
		"a large header":           {plainText("/a", "X-B: "+strings.Repeat("x", 20<<10)+"\r\n", "1", "x")},
		"a line end behind it":     {post("/a", "hello") + "\r\n" + post("/b", "you"), post("/c", "there")},
		"line ends before another": {post("/a", "hello"), "\r\n\n\r" + post("/b", "you"), "\n" + post("/c", "there")},
		"line ends, then other":    {post("/a", "hello") + "\r\n" + health, post("/b", "you") + "\r\n\r\n" + post("/c", "there")},
		"one line end too many":    {post("/a", "hello") + "\r\n\r\n\n" + post("/b", "you")},
		"line ends before all":     {"\r\n" + post("/a", "hello")},
		"line ends within":         {post("/a", "hello") + "P\r\n" + post("/b", "you")},
		"smuggled":                 {plainText("/a", "Transfer-Encoding: chunked\r\n", "4", "0\r\n\r\n") + health},
	}
	for name, texts := range tests {
		t.Run(name, func(t *testing.T) {
			var heard [2][]said
			for i, addr := range []string{plain, other} {
				e := dial(t, addr)
				for _, text := range texts {
					go io.WriteString(e.conn, text) // it may be refused half way
					for range strings.Count(text, " HTTP/1.1\r\n") + strings.Count(text, "what") {
						if s, ok := e.hear(t); ok {
							heard[i] = append(heard[i], s)
						}
					}
				}
			}
			if !reflect.DeepEqual(heard[0], heard[1]) || len(heard[1]) == 0 {
				t.Errorf("%.300q is answered\n%v\nby us, by net/http\n%v", texts, heard[0], heard[1])
			}
		})
	}
	for _, stop := range []func() error{stopPlain, stopOther} {
		if err := stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

func TestPlainInPieces(t *testing.T) {
	addr, stop := serving(t, Server{Handler: http.HandlerFunc(echo), Plain: true})
	e := dial(t, addr)
	text := plainText("/json", "", "5", "hello")
	for _, piece := range []string{text[:3], text[3:40], text[40 : len(text)-7], text[len(text)-7 : len(text)-2], text[len(text)-2:] + "\r", "\n\r", "\n" + text[:9], text[9:]} {
		e.say(t, piece)
	}
	for range 2 {
		if s, ok := e.hear(t); !ok || s.body != "\"hello\"\n" {
			t.Errorf("answered %+v, %v, want hello", s, ok)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
}

// TestPlainAtTheEnd: what is under way when the server is told to stop is
// answered, and its connection ends with the answer; an idle one ends at once.
func TestPlainAtTheEnd(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	addr, stop := serving(t, Server{Plain: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(inside)
			<-release
		}
		io.WriteString(w, "whole")
	})})
	idle, fresh, busy := dial(t, addr), dial(t, addr), dial(t, addr)
	idle.say(t, plainText("/", "", "1", "x"))
	if s, _ := idle.hear(t); s.body != "whole" {
		t.Fatalf("answered %+v", s)
	}
	busy.say(t, plainText("/slow", "", "1", "x"))
	<-inside
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for name, e := range map[string]*exchange{"idle": idle, "fresh": fresh} {
		if s, ok := e.hear(t); ok {
			t.Errorf("the %s connection heard %+v, want its end", name, s)
		}
	}
	waitRefused(t, addr)
	close(release)
	if s, ok := busy.hear(t); !ok || s.body != "whole" || !s.close {
		t.Errorf("the request under way was answered %+v, %v, want all of it and the connection's end", s, ok)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestPlainCutOffAfterGrace(t *testing.T) {
	inside, left := make(chan struct{}), make(chan struct{})
	addr, stop := serving(t, Server{Plain: true, Grace: time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
		close(left)
	})})
	e := dial(t, addr)
	e.say(t, plainText("/", "", "1", "x"))
	<-inside
	if err := stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	<-left
	if s, ok := e.hear(t); ok {
		t.Errorf("answered %+v after the grace, want the connection's end", s)
	}
}

// TestPlainTakesTooLong: how long a connection may do what it does.
func TestPlainTakesTooLong(t *testing.T) {
	began := time.Now()
	tests := map[string]struct {
		state uint32
		after time.Duration
		want  bool
	}{
		"new":                 {stateNew, readHeaderTimeout - 1, false},
		"new for too long":    {stateNew, readHeaderTimeout, true},
		"idle":                {stateIdle, idleTimeout - 1, false},
		"idle for too long":   {stateIdle, idleTimeout, true},
		"a slow head":         {stateHead, readHeaderTimeout, true},
		"a body":              {stateBody, readTimeout - 1, false},
		"a slow body":         {stateBody, readTimeout, true},
		"a handler may":       {stateHandling, 24 * time.Hour, false},
		"an answer not taken": {stateWriting, writeTimeout, true},
		"closed":              {stateClosed, 24 * time.Hour, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := &plainConn{front: &front{times: stateTimes}}
			c.state.Store(tt.state)
			if c.late(began) {
				t.Error("late at the first look")
			}
			if got := c.late(began.Add(tt.after)); got != tt.want || got && c.enter(stateHandling) {
				t.Errorf("late after %v = %v, want %v, and then it takes no request", tt.after, got, tt.want)
			}
		})
	}
	c := &plainConn{front: &front{times: stateTimes}}
	for i := range 3 {
		if c.late(began.Add(time.Duration(i) * 4 * time.Second)) {
			t.Error("late although something came in between")
		}
		c.enter(stateHandling)
		c.enter(stateIdle)
	}
}

func TestFrontGivesUpWithItsListener(t *testing.T) {
	l, err := Listen(t.Context(), "LISTEN", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() {
		ran <- Run(t.Context(), quiet(), Server{Name: "public", Listener: l, Handler: http.NotFoundHandler(), Plain: true})
	}()
	l.Close()
	if err := <-ran; err == nil {
		t.Error("Run = nil although its listener was closed")
	}
}

// BenchmarkServed answers requests of 400 bytes, one after the other on each of 32
// connections, with 32 bytes, over loopback: with the client's part in it.
func BenchmarkServed(b *testing.B) {
	for name, plain := range map[string]bool{"plain": true, "net/http": false} {
		b.Run(name, func(b *testing.B) {
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, p := Body(w, r, 1<<20); p != nil {
					Problem(w, r, p)
				}
				JSONText(w, http.StatusOK, []byte(`{"results":[{"id":"bench-1"}]}`+"\n"))
			})
			addr, stop := serving(b, Server{Handler: handler, Plain: plain})
			text := plainText("/v1/dispatch", "Webhook-Id: req_1\r\nWebhook-Timestamp: 1790000000\r\nWebhook-Signature: v1,AAAA=\r\n", "400", strings.Repeat("x", 400))
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				e := dial(b, addr)
				answer := make([]byte, 512)
				for pb.Next() {
					e.say(b, text)
					if n, err := e.conn.Read(answer); err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200")) {
						b.Errorf("answered %q, %v", answer[:n], err)
						return
					}
				}
			})
			b.StopTimer()
			if err := stop(); err != nil {
				b.Error(err)
			}
		})
	}
}
