package callback

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"pushcluster/functions/collect/source"
)

const (
	maxAnswer   = 4 << 10   // bytes of an answer that are read
	maxHeaders  = 16 << 10  // bytes of an answer's headers
	maxPutOff   = time.Hour // that an answer's Retry-After may ask for
	postsAtOnce = 8         // connections to one host
)

// ErrGone means that the receiver wants no callbacks any more: it has answered
// 410.
var ErrGone = errors.New("the receiver answers 410: it wants no callbacks any more")

// A statusError is an answer that does not take a callback.
type statusError struct {
	status int
	after  time.Duration // that the receiver asks to wait; 0: it does not say
}

func (e *statusError) Error() string { return fmt.Sprintf("the receiver answers %d", e.status) }

// PosterConfig tunes a [Poster].
type PosterConfig struct {
	// Allow are networks that callbacks may go to although they are not on the
	// Internet.
	Allow   []netip.Prefix
	Timeout time.Duration    // of one request, from the look-up of the name to the answer; 0: 10 s
	Now     func() time.Time // nil: time.Now
}

// A Poster posts signed callbacks. It follows no redirect, uses no proxy, and
// connects to no address of a private network that is not allowed. It may be
// used by several goroutines.
type Poster struct {
	cfg    PosterConfig
	base   *http.Transport
	client *http.Client
}

// NewPoster returns a poster. It does no I/O; Close ends the connections that it
// keeps.
func NewPoster(cfg PosterConfig) *Poster {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	g := &guard{allow: cfg.Allow, reserved: reserved()}
	dialer := &net.Dialer{Timeout: cfg.Timeout / 2, Control: g.control}
	base := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    cfg.Timeout / 2,
		MaxResponseHeaderBytes: maxHeaders,
		MaxConnsPerHost:        postsAtOnce,
		MaxIdleConnsPerHost:    postsAtOnce,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
	return &Poster{cfg: cfg, base: base, client: &http.Client{
		Transport:     base,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close ends the connections that nobody uses.
func (p *Poster) Close() { p.base.CloseIdleConnections() }

// Post posts body to c under the given webhook-id, and returns nil if the
// receiver has taken it: it answers 2xx in time. The error wraps [ErrGone] if
// it never will; no error shows the address or the body.
func (p *Poster) Post(ctx context.Context, c *source.Callback, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address cannot be posted to")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "pushcluster")
	if err := c.Signer.Sign(req.Header, id, p.cfg.Now(), body); err != nil {
		return err
	}
	answer, err := p.client.Do(req)
	if err != nil {
		return p.bare(err)
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, maxAnswer) // so that the connection can be used again
	switch {
	case answer.StatusCode >= 200 && answer.StatusCode < 300:
		return nil
	case answer.StatusCode == http.StatusGone:
		return ErrGone
	}
	return &statusError{answer.StatusCode, retryAfter(answer.Header)}
}

// bare returns what went wrong, without the address, which may hold what only
// its receiver should know.
func (p *Poster) bare(err error) error {
	var target *errTarget
	if errors.As(err, &target) {
		return target
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", p.cfg.Timeout)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// retryAfter reads how many seconds an answer asks to wait, at most an hour.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(min(seconds, int(maxPutOff/time.Second)))*time.Second, maxPutOff)
}
