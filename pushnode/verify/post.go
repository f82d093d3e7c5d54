package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"pushcluster/shared/push"
)

// maxAnswer bounds the bytes of an answer that are read. An identity repeats
// what its token says, and a token has 8 KiB.
const maxAnswer = 256 << 10

// post asks Auth once, and once more if no answer came because the connection
// failed: behind a balancer the second goes elsewhere. A missed deadline is not
// repeated, it would double the load on an Auth that is slow.
func (v *Verifier) post(ctx context.Context, token string) (push.Identity, error) {
	body, err := json.Marshal(push.VerifyRequest{Token: token})
	if err != nil {
		return push.Identity{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	start := time.Now()
	resp, err := v.send(ctx, body)
	if err != nil && ctx.Err() == nil {
		v.metrics.retries.Inc()
		resp, err = v.send(ctx, body)
	}
	if err != nil {
		v.metrics.asked("no_answer", start)
		return push.Identity{}, fmt.Errorf("%w: ask Auth: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(answer) > maxAnswer {
		v.metrics.asked("no_answer", start)
		return push.Identity{}, fmt.Errorf("%w: Auth's answer is cut short or too long", ErrUnavailable)
	}
	identity, err := read(resp.StatusCode, answer)
	v.metrics.asked(outcome(err), start)
	return identity, err
}

func (v *Verifier) send(ctx context.Context, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+"/v1/auth/verify", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return v.client.Do(req)
}

// read turns an answer of Auth into an identity or an error of this package.
// Whatever is not a clear verdict on the token, a signature of ours that Auth
// refuses included, is no fault of the client: it may try again.
func read(status int, answer []byte) (push.Identity, error) {
	if status == http.StatusOK {
		var identity push.Identity
		if err := json.Unmarshal(answer, &identity); err != nil {
			return push.Identity{}, fmt.Errorf("%w: Auth's answer is no identity", ErrUnavailable)
		}
		if err := identity.User.Check(); err != nil {
			return push.Identity{}, fmt.Errorf("%w: Auth's answer: %w", ErrUnavailable, err)
		}
		return identity, nil
	}
	var p push.Problem
	if err := json.Unmarshal(answer, &p); err != nil {
		return push.Identity{}, fmt.Errorf("%w: Auth answers %d", ErrUnavailable, status)
	}
	switch p.Code {
	case push.CodeTokenExpired:
		return push.Identity{}, ErrExpired
	case push.CodeTokenInvalid, push.CodeBodyTooLarge:
		return push.Identity{}, ErrInvalid
	}
	return push.Identity{}, fmt.Errorf("%w: Auth answers %d %s", ErrUnavailable, status, p.Code)
}

// Ready returns nil if Auth is there: it answers /healthz. Whether it could
// judge every token is its own affair.
func (v *Verifier) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: ask Auth: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // so that the connection is kept
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: Auth answers %d", ErrUnavailable, resp.StatusCode)
	}
	return nil
}
