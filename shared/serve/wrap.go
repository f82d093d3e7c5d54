package serve

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/shared/push"
)

// Wrap returns next with what every handler of ours has around it: a panic is
// logged and answered with a 500 problem; each request is counted and, at level
// debug, logged without query, headers or body; 404 and 405 of an
// http.ServeMux become problems, and so do its redirects (307, which is its own:
// no handler of ours answers that); the body is closed, and of one that was refused
// what is left is passed over.
//
// port ("public", "internal") tells the metrics of several handlers in one
// registry apart. A nil reg leaves them unregistered.
func Wrap(port string, next http.Handler, log *slog.Logger, reg prometheus.Registerer) http.Handler {
	m := newMetrics(port, reg)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		a := &answer{ResponseWriter: w, request: r}
		defer func() {
			broken, halfway := recover(), a.started
			if broken != nil && broken != http.ErrAbortHandler {
				m.panics.Inc()
				log.Error("panic in a handler", "port", port, "route", route(r), "panic", broken, "stack", string(debug.Stack()))
				if !halfway {
					Problem(a, r, push.NewProblem(push.CodeInternal, "the request could not be handled"))
				}
			}
			if broken == nil && a.status >= http.StatusBadRequest {
				passOver(a, r)
			}
			r.Body.Close()
			m.count(r, a, time.Since(start))
			if log.Enabled(r.Context(), slog.LevelDebug) { // else all of it would be put together for nothing
				log.Debug("request", "port", port, "method", r.Method, "path", r.URL.Path,
					"status", a.status, "ms", time.Since(start).Milliseconds())
			}
			if broken != nil && (broken == http.ErrAbortHandler || halfway) {
				panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
			}
		}()
		next.ServeHTTP(a, r)
	})
}

// mostPassedOver bounds what is read of a body that nobody wants: twice what a
// request of others may have.
const mostPassedOver = 2 << 20

// passOver sends the refusal of r and reads what is left of its body, where the other
// side said that the connection ends with the answer. There net/http closes at once
// (elsewhere it waits a moment); with something unread that is a reset, and the
// answer may go with it: nginx, which has each request on a connection of its own
// unless told otherwise, says 502 then and takes the server for broken.
func passOver(a *answer, r *http.Request) {
	if !r.Close || r.ContentLength == 0 || r.Header.Get("Expect") != "" { // such a body comes only when asked for
		return
	}
	a.Flush()
	_, _ = io.CopyN(io.Discard, r.Body, mostPassedOver)
}

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	panics   prometheus.Counter
}

func newMetrics(port string, reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	labels := prometheus.Labels{"port": port}
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "serve_requests_total", ConstLabels: labels,
			Help: "HTTP requests, by route pattern and class of status (2xx, 4xx, hijacked, …)."},
			[]string{"route", "class"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "serve_request_seconds", ConstLabels: labels,
			Help:    "Time to answer an HTTP request, by route pattern.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}},
			[]string{"route"}),
		panics: f.NewCounter(prometheus.CounterOpts{
			Name: "serve_panics_total", ConstLabels: labels,
			Help: "Handlers that panicked."}),
	}
}

func (m *metrics) count(r *http.Request, a *answer, took time.Duration) {
	class := "hijacked"
	if !a.hijacked {
		status := a.status
		if status == 0 {
			status = http.StatusOK // nothing written: net/http answers 200
		}
		class = classOf(status)
		m.seconds.WithLabelValues(route(r)).Observe(took.Seconds())
	}
	m.requests.WithLabelValues(route(r), class).Inc()
}

// classOf returns the class of a status: 2xx, 4xx, …
func classOf(status int) string {
	switch status / 100 {
	case 2:
		return "2xx"
	case 4:
		return "4xx"
	case 5:
		return "5xx"
	}
	return strconv.Itoa(status/100) + "xx"
}

// route is the pattern that an http.ServeMux matched, a bounded set.
func route(r *http.Request) string {
	if r.Pattern == "" {
		return "other"
	}
	return r.Pattern
}

// An answer notes what became of a response.
type answer struct {
	http.ResponseWriter
	request  *http.Request
	status   int
	started  bool // the handler itself has written a header
	replaced bool // the handler's body is dropped: a problem stands in for it
	hijacked bool
}

func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.status, a.started = status, true
	if p := a.muxProblem(status); p != nil {
		a.replaced = true
		a.request.Pattern = "" // of a redirect it is what lives elsewhere
		a.status = 0
		h := a.Header()
		h.Del("X-Content-Type-Options")
		h.Del("Content-Length")
		h.Del("Location")
		Problem(muxAnswer{a}, a.request, p)
		return
	}
	a.ResponseWriter.WriteHeader(status)
}

// muxProblem returns the problem that replaces a plain-text refusal of
// http.ServeMux, or that it sends the client to a path with a slash more or with
// fewer; nil if this is neither. Who posts would not follow, and what is asked of
// one path is not to be answered by another.
func (a *answer) muxProblem(status int) *push.Problem {
	if status == http.StatusTemporaryRedirect {
		return push.NewProblem(push.CodeNotFound, "nothing lives at this path")
	}
	if a.request.Pattern != "" || a.Header().Get("Content-Type") == "application/problem+json" {
		return nil
	}
	switch status {
	case http.StatusNotFound:
		return push.NewProblem(push.CodeNotFound, "nothing lives at this path")
	case http.StatusMethodNotAllowed:
		return push.NewProblem(push.CodeMethodNotAllowed, "this path answers %s", a.Header().Get("Allow"))
	}
	return nil
}

func (a *answer) Write(b []byte) (int, error) {
	if a.replaced {
		return len(b), nil
	}
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
		if a.replaced {
			return len(b), nil
		}
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find the writer below.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush sends what is buffered, where the writer below can.
func (a *answer) Flush() { http.NewResponseController(a.ResponseWriter).Flush() }

// Hijack takes the connection over, as a WebSocket does.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err == nil {
		a.hijacked, a.started = true, true
		if a.status == 0 {
			a.status = http.StatusSwitchingProtocols
		}
	}
	return conn, rw, err
}

// A muxAnswer writes the replacing problem past the replacement.
type muxAnswer struct{ a *answer }

func (m muxAnswer) Header() http.Header { return m.a.Header() }
func (m muxAnswer) WriteHeader(status int) {
	m.a.status = status
	m.a.ResponseWriter.WriteHeader(status)
}
func (m muxAnswer) Write(b []byte) (int, error) { return m.a.ResponseWriter.Write(b) }
