// Package nodeclient asks push nodes to do things: it is Dispatch's side of the
// node API, at the address that is part of a node's id. Entries go over a stream
// that is kept open to each node, several batches at a time; where there is none,
// and everything else, as signed requests over kept HTTP/1.1 connections.
package nodeclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/shared/push"
	"pushcluster/shared/signature"
)

// Why a node did not do what it was asked.
var (
	// ErrOtherNode means that another incarnation, or another node, lives at
	// the address: the one that was asked for is gone for good.
	ErrOtherNode = errors.New("another node lives at the address")
	// ErrUnreachable means that nobody answered. It says nothing about the node.
	ErrUnreachable = errors.New("node cannot be reached")
	// ErrTimeout means that the deadline passed. The node may have done it.
	ErrTimeout = errors.New("node did not answer in time")
	// ErrRefused means that the node answered with a problem, which the error
	// wraps as a *push.Problem where it was one.
	ErrRefused = errors.New("node refused")
	// ErrAnswer means that the answer cannot be understood.
	ErrAnswer = errors.New("node gave an answer that cannot be understood")
)

// maxAnswer bounds what is read of an answer, in bytes: it may list as many
// channels as were delivered.
const maxAnswer = 8 << 20

// A Config tunes a [Client]. Its zero value is good.
type Config struct {
	ConnectTime time.Duration // how long opening a connection may take; 0 means 500 ms
	IdlePerNode int           // connections kept open to each node; 0 means 16
}

// A Client talks to nodes. It may be used by several goroutines.
type Client struct {
	http    *http.Client
	streams streams
}

// New returns a client that signs its requests and streams with signer, dated by
// now. It does no I/O and starts nothing.
func New(cfg Config, signer *signature.Signer, now func() time.Time, prom prometheus.Registerer) *Client {
	if cfg.ConnectTime <= 0 {
		cfg.ConnectTime = 500 * time.Millisecond
	}
	if cfg.IdlePerNode <= 0 {
		cfg.IdlePerNode = 16
	}
	connect := net.Dialer{Timeout: cfg.ConnectTime}
	c := &Client{http: &http.Client{
		Transport: &signature.Transport{Signer: signer, Now: now, Base: &http.Transport{
			DialContext:         connect.DialContext,
			MaxIdleConnsPerHost: cfg.IdlePerNode,
			IdleConnTimeout:     time.Minute, // shorter than our servers keep one
			DisableCompression:  true,
			WriteBufferSize:     32 << 10,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	c.streams.dial = dialer(connect, signer, now)
	c.streams.metrics = newMetrics(prom)
	c.streams.byNode = make(map[push.NodeID]*dialed)
	return c
}

// Close closes streams and idle connections. Calls under way go on, as requests.
func (c *Client) Close() {
	c.streams.close()
	c.http.CloseIdleConnections()
}

// Deliver brings the node entries. It sets req.Node. The call ends with ctx,
// which should have a deadline: a node that does not meet it gets a new stream.
// Where a stream breaks before the answer the entries are brought once more, as a
// request; a node drops what it was given before.
func (c *Client) Deliver(ctx context.Context, node push.NodeID, req push.DeliverRequest) (push.DeliverAnswer, error) {
	req.Node = node
	answer, err := c.stream(ctx, node, &req)
	if err == nil {
		return answer, nil
	}
	if !errors.Is(err, errNoStream) {
		return push.DeliverAnswer{}, fmt.Errorf("deliver to %s: %w", node, err)
	}
	if err := c.post(ctx, node, "/v1/node/deliver", &req, &answer); err != nil {
		return push.DeliverAnswer{}, fmt.Errorf("deliver to %s: %w", node, err)
	}
	if answer.Node != node {
		return push.DeliverAnswer{}, fmt.Errorf("deliver to %s: %w", node, ErrOtherNode)
	}
	return answer, nil
}

// stream brings req over the node's stream.
func (c *Client) stream(ctx context.Context, node push.NodeID, req *push.DeliverRequest) (push.DeliverAnswer, error) {
	if node.Addr() == "" {
		return push.DeliverAnswer{}, errNoStream // post says why
	}
	st, err := c.streams.to(ctx, node)
	if err != nil {
		return push.DeliverAnswer{}, err
	}
	a, err := st.send(ctx, req)
	if err != nil {
		return push.DeliverAnswer{}, err
	}
	if a.Code != "" {
		return push.DeliverAnswer{}, fmt.Errorf("%w: %w", ErrRefused, push.NewProblem(a.Code, "%s", a.Detail))
	}
	return push.DeliverAnswer{Node: node, Unknown: a.Unknown}, nil
}

// Disconnect has the node close connections of a user.
func (c *Client) Disconnect(ctx context.Context, node push.NodeID, req push.DisconnectRequest) (push.DisconnectAnswer, error) {
	var answer push.DisconnectAnswer
	if err := c.post(ctx, node, "/v1/node/disconnect", &req, &answer); err != nil {
		return push.DisconnectAnswer{}, fmt.Errorf("disconnect on %s: %w", node, err)
	}
	return answer, nil
}

// Info asks the node which connections a user has there.
func (c *Client) Info(ctx context.Context, node push.NodeID, req push.InfoRequest) (push.InfoAnswer, error) {
	var answer push.InfoAnswer
	if err := c.post(ctx, node, "/v1/node/info", &req, &answer); err != nil {
		return push.InfoAnswer{}, fmt.Errorf("ask %s about a user: %w", node, err)
	}
	return answer, nil
}

// Status asks the node how it is.
func (c *Client) Status(ctx context.Context, node push.NodeID) (push.NodeStatus, error) {
	var answer push.StatusAnswer
	if err := c.post(ctx, node, "/v1/node/status", push.StatusRequest{}, &answer); err != nil {
		return push.NodeStatus{}, fmt.Errorf("ask %s how it is: %w", node, err)
	}
	if answer.Node != node {
		return push.NodeStatus{}, fmt.Errorf("ask %s how it is: %w", node, ErrOtherNode)
	}
	return answer.NodeStatus, nil
}

// Revoke has the node close connections whose tokens were revoked.
func (c *Client) Revoke(ctx context.Context, node push.NodeID, req push.RevokeRequest) (push.DisconnectAnswer, error) {
	var answer push.DisconnectAnswer
	if err := c.post(ctx, node, "/v1/node/revoke", &req, &answer); err != nil {
		return push.DisconnectAnswer{}, fmt.Errorf("revoke on %s: %w", node, err)
	}
	return answer, nil
}

func (c *Client) post(ctx context.Context, node push.NodeID, path string, body, answer any) error {
	addr := node.Addr()
	if addr == "" {
		return fmt.Errorf("%w: its id holds no address", ErrUnreachable)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, &buf)
	if err != nil {
		return fmt.Errorf("%w: its id holds no usable address", ErrUnreachable)
	}
	req.Header.Set("Content-Type", "application/json")
	// All requests may be repeated. Without a value this is not sent; it lets
	// the transport try again when a kept connection turns out to be closed.
	req.Header["Idempotency-Key"] = nil
	res, err := c.http.Do(req)
	if err != nil {
		return transportError(ctx, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return transportError(ctx, err)
	}
	return decodeAnswer(res.StatusCode, raw, answer)
}

// decodeAnswer reads what a node answered into answer, or returns why it did
// not do what it was asked.
func decodeAnswer(status int, raw []byte, answer any) error {
	if status == http.StatusOK {
		if err := json.Unmarshal(raw, answer); err != nil {
			return fmt.Errorf("%w: not the JSON that is due", ErrAnswer)
		}
		return nil
	}
	p := &push.Problem{}
	if json.Unmarshal(raw, p) != nil || p.Code == "" {
		return fmt.Errorf("%w with status %d", ErrRefused, status)
	}
	if p.Code == push.CodeOtherNode {
		return ErrOtherNode
	}
	return fmt.Errorf("%w: %w", ErrRefused, p)
}

// transportError tells a deadline from everything else, and leaves the URL out.
func transportError(ctx context.Context, err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err
	}
	if netErr, ok := errors.AsType[net.Error](err); (ok && netErr.Timeout()) || ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
