package handoff

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/signature"
)

// askTime is how long a question may take: longer than Dispatch waits for nodes.
const askTime = 5 * time.Second

// An Asker asks Dispatch what only push nodes know, and brings them orders. It
// may be used by several goroutines. The errors of its methods are those of a
// [Client].
type Asker struct {
	base string
	http *http.Client
}

// NewAsker returns an asker for the Dispatch at rawURL: http://HOST:PORT, to
// which it signs its requests with signer, or lambda://FUNCTION. It asks nobody
// yet.
func NewAsker(rawURL string, signer *signature.Signer) (*Asker, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("the URL of Dispatch cannot be parsed; it is http://HOST:PORT or lambda://FUNCTION") // the error would tell a password
	}
	if u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the URL of Dispatch must be http://HOST:PORT or lambda://FUNCTION, without user, query or fragment")
	}
	switch u.Scheme {
	case "http", "https", "lambda":
	default:
		return nil, fmt.Errorf("questions by %q are not answered; use http://HOST:PORT or lambda://FUNCTION", u.Scheme)
	}
	client, err := RPC(rawURL, newHTTPClient(signer))
	if err != nil {
		return nil, err
	}
	return &Asker{base: strings.TrimSuffix(u.String(), "/"), http: client}, nil
}

// Close closes idle connections. Calls under way go on.
func (a *Asker) Close() { a.http.CloseIdleConnections() }

// Info asks which connections a user has.
func (a *Asker) Info(ctx context.Context, req push.InfoRequest) (push.InfoAnswer, error) {
	return ask[push.InfoAnswer](ctx, a, "/v1/dispatch/info", req)
}

// Nodes asks which nodes there are, and how each is.
func (a *Asker) Nodes(ctx context.Context) (push.NodesAnswer, error) {
	return ask[push.NodesAnswer](ctx, a, "/v1/dispatch/nodes", push.NodesRequest{})
}

// Disconnect has connections of a user closed.
func (a *Asker) Disconnect(ctx context.Context, req push.DisconnectRequest) (push.DisconnectAnswer, error) {
	return ask[push.DisconnectAnswer](ctx, a, "/v1/dispatch/disconnect", req)
}

// Subscribe has connections of a user subscribed to a topic.
func (a *Asker) Subscribe(ctx context.Context, req push.SubscribeRequest) (push.SubscriptionAnswer, error) {
	return ask[push.SubscriptionAnswer](ctx, a, "/v1/dispatch/subscribe", req)
}

// Unsubscribe has subscriptions of a user's connections to a topic ended.
func (a *Asker) Unsubscribe(ctx context.Context, req push.UnsubscribeRequest) (push.SubscriptionAnswer, error) {
	return ask[push.SubscriptionAnswer](ctx, a, "/v1/dispatch/unsubscribe", req)
}

// Revoke has connections closed whose tokens were revoked.
func (a *Asker) Revoke(ctx context.Context, req push.RevokeRequest) (push.DisconnectAnswer, error) {
	return ask[push.DisconnectAnswer](ctx, a, "/v1/dispatch/revoke", req)
}

// ask posts a question and returns its answer.
func ask[A any](ctx context.Context, a *Asker, path string, question any) (A, error) {
	var answer A
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return answer, fmt.Errorf("encode a question: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+path, bytes.NewReader(body))
	if err != nil {
		return answer, fmt.Errorf("%w: its URL is of no use", ErrUnreachable)
	}
	req.Header.Set("Content-Type", "application/json")
	// Every question may be repeated. Without a value this is not sent; it lets
	// the transport try again when a kept connection turns out to be closed.
	req.Header["Idempotency-Key"] = nil
	res, err := a.http.Do(req)
	if err != nil {
		return answer, transportError(ctx, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return answer, transportError(ctx, err)
	}
	return answer, decodeAnswer(res.StatusCode, raw, &answer)
}

// decodeAnswer reads the answer to a question into answer, or returns why there
// is none.
func decodeAnswer(status int, raw []byte, answer any) error {
	if status != http.StatusOK {
		p := &push.Problem{}
		if json.Unmarshal(raw, p) != nil || p.Code == "" {
			return fmt.Errorf("%w: status %d", ErrAnswer, status)
		}
		return p
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("%w: not the JSON that is due", ErrAnswer)
	}
	return nil
}
