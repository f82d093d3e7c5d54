// Package api asks Collect and Auth for what their HTTP APIs offer. Each method
// is one request, and each answer comes as it was sent, for scripts, and
// decoded, for people.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"pushcluster/shared/push"
)

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 32 << 20

// Config says whom to ask. URLs are base URLs; behind one gateway both are the
// same.
type Config struct {
	Collect string
	Auth    string
	Key     string        // an API key
	Timeout time.Duration // of one request, answer included; 0 means 10 s
}

// A Client asks Collect and Auth. It may be used by several goroutines.
type Client struct {
	cfg  Config
	http *http.Client
}

// New returns a client. It does no I/O. A URL may be missing until it is needed.
func New(cfg Config) (*Client, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	for _, u := range []struct {
		name string
		base *string
	}{{"Collect", &cfg.Collect}, {"Auth", &cfg.Auth}} {
		if *u.base == "" {
			continue
		}
		parsed, err := url.Parse(*u.base)
		if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" || parsed.RawQuery != "" || parsed.Fragment != "" {
			return nil, fmt.Errorf("the URL of %s must be http(s)://HOST[:PORT][/PATH]", u.name)
		}
		*u.base = strings.TrimSuffix(parsed.String(), "/")
	}
	return &Client{cfg: cfg, http: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 4},
		// A redirect would carry the API key to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes kept connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// An Answer is what a service answered, decoded and as it came.
type Answer[T any] struct {
	Value  T
	Raw    json.RawMessage
	Header http.Header
}

// An Item is one element of a list, decoded and as it came.
type Item[T any] struct {
	Value T
	Raw   json.RawMessage
}

// UnmarshalJSON decodes one element and keeps it (json.Unmarshaler).
func (i *Item[T]) UnmarshalJSON(text []byte) error {
	i.Raw = bytes.Clone(text)
	return json.Unmarshal(text, &i.Value)
}

// ErrUnconfigured means that the URL of a service is not known.
var ErrUnconfigured = errors.New("its URL is not known")

// An Error is a request that was not answered as it should.
type Error struct {
	Service string // "Collect" or "Auth"
	URL     string // its base URL
	// Problem is what the service answered; nil: it was not reached, or spoke
	// another language.
	Problem *push.Problem
	Status  int           // of the answer; 0: there was none
	Retry   time.Duration // of Retry-After; 0: it does not say
	Err     error         // why there is no Problem
}

// Error says what happened, on one line.
func (e *Error) Error() string {
	switch {
	case e.Problem != nil:
		return fmt.Sprintf("%s refused: %s (%s)", e.Service, e.Problem.Title, e.Problem.Code)
	case e.URL == "":
		return fmt.Sprintf("%s cannot be asked: %v", e.Service, e.Err)
	case e.Status != 0:
		return fmt.Sprintf("%s at %s answered with status %d, which is no answer of pushcluster", e.Service, e.URL, e.Status)
	}
	return fmt.Sprintf("%s at %s cannot be reached: %v", e.Service, e.URL, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error {
	if e.Problem != nil {
		return e.Problem
	}
	return e.Err
}

// Temporary reports whether the same request may do better later.
func (e *Error) Temporary() bool {
	switch e.Status {
	case 0:
		return !errors.Is(e.Err, ErrUnconfigured)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// A service is one of those that are asked.
type service struct{ name, base string }

func (c *Client) collect() service { return service{"Collect", c.cfg.Collect} }
func (c *Client) auth() service    { return service{"Auth", c.cfg.Auth} }

// A call is one request.
type call struct {
	to     service
	method string
	path   string // escaped, with its query
	body   []byte // nil: none
	open   bool   // needs no API key, and gets none

	has     []string // one of these fields the answer has, or each element of a list
	patient bool     // the answer comes bit by bit: it may take longPatience
	silent  bool     // success is 204 and nothing else
}

// longPatience is how long an answer may take that comes bit by bit, some 20 s
// by itself.
const longPatience = time.Minute

// do sends a call and decodes its answer. Its error is an [*Error], or that of
// ctx.
func do[T any](ctx context.Context, c *Client, k call) (Answer[T], error) {
	var a Answer[T]
	res, err := c.send(ctx, k)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	fault := &Error{Service: k.to.name, URL: k.to.base, Status: res.StatusCode}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		if ctx.Err() != nil {
			return a, ctx.Err()
		}
		fault.Status, fault.Err = 0, late(err, c.patience(k))
		return a, fault
	}
	if res.StatusCode >= 300 {
		fault.Problem, fault.Retry = decodeProblem(raw), retryAfter(res.Header)
		return a, fault
	}
	a.Raw, a.Header = bytes.TrimSpace(raw), res.Header
	if k.silent && res.StatusCode == http.StatusNoContent {
		return a, nil
	}
	if err := json.Unmarshal(raw, &a.Value); err != nil || k.silent || !has(raw, k.has...) {
		return a, fault // it may be JSON, but is not of ours
	}
	return a, nil
}

// send sends a call and returns the answer, whose body the caller closes. The
// call's deadline covers the body too.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	fault := &Error{Service: k.to.name, URL: k.to.base}
	if k.to.base == "" {
		fault.Err = ErrUnconfigured
		return nil, fault
	}
	var body io.Reader
	if k.body != nil {
		body = bytes.NewReader(k.body)
	}
	patience := c.patience(k)
	deadline, cancel := context.WithTimeout(ctx, patience)
	req, err := http.NewRequestWithContext(deadline, k.method, k.to.base+k.path, body)
	if err != nil {
		cancel()
		fault.Err = errors.New("its URL is of no use")
		return nil, fault
	}
	if c.cfg.Key != "" && !k.open {
		req.Header.Set("X-API-Key", c.cfg.Key)
	}
	if k.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the URL is told already
		}
		fault.Err = late(err, patience)
		return nil, fault
	}
	res.Body = &endingBody{res.Body, cancel}
	return res, nil
}

// patience is how long k may take, its answer included.
func (c *Client) patience(k call) time.Duration {
	if k.patient {
		return max(c.cfg.Timeout, longPatience)
	}
	return c.cfg.Timeout
}

// late says of an error whether it is that the answer, or the rest of it, did
// not come within patience.
func late(err error, patience time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", patience)
	}
	return err
}

// An endingBody ends its request's deadline when it is closed.
type endingBody struct {
	io.ReadCloser
	end func()
}

// Close closes the body (io.Closer).
func (b *endingBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// has reports whether raw is an object in which one of fields is neither missing
// nor null nor "", or a list of such objects.
func has(raw []byte, fields ...string) bool {
	list := make([]map[string]json.RawMessage, 1)
	var into any = &list[0]
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
		into = &list
	}
	if json.Unmarshal(raw, into) != nil {
		return false
	}
	for _, object := range list {
		if !slices.ContainsFunc(fields, func(field string) bool {
			value := string(object[field])
			return value != "" && value != "null" && value != `""`
		}) {
			return false
		}
	}
	return true
}

// decodeProblem returns the problem that an error answer holds, nil if it is
// none of ours.
func decodeProblem(raw []byte) *push.Problem {
	p := &push.Problem{}
	if json.Unmarshal(raw, p) != nil || p.Code == "" {
		return nil
	}
	return p
}

// retryAfter returns what the header of that name says in seconds, at most an
// hour; 0: nothing.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, time.Hour)
}

// encode makes the body of a request.
func encode(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("api: a request that cannot be encoded: %v", err)) // ours alone
	}
	return buf.Bytes()
}

// segment escapes text as one segment of a path, the two also that a path is
// cleaned of.
func segment(text string) string {
	if text == "." || text == ".." {
		return strings.ReplaceAll(text, ".", "%2E")
	}
	return url.PathEscape(text)
}

// query returns ?a=b of those pairs that have a value.
func query(pairs ...string) string {
	values := make(url.Values)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}
