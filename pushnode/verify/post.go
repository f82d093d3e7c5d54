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

// Bounds of the bytes of an answer that are read. An identity repeats what its
// token says, and a token has 8 KiB; all tokens of a batch have 256 KiB.
const (
	maxAnswer      = 256 << 10
	maxBatchAnswer = 4 << 20
)

const verifyPath = "/v1/auth/verify"

// ask asks Auth about questions, and has answered them or given them back when
// it returns (see desk.send). Good answers are kept.
func (v *Verifier) ask(ctx context.Context, questions []*question) {
	start := time.Now()
	if len(questions) == 1 {
		v.metrics.requests.WithLabelValues("single").Inc()
		identity, outcome, err := v.post(ctx, questions[0].token)
		v.metrics.asked(outcome, start)
		v.desk.answer(questions, []answer{v.judge(questions[0], &identity, err)})
		return
	}
	results, refused, err := v.postBatch(ctx, questions)
	if refused != nil {
		v.metrics.requests.WithLabelValues("refused").Inc()
		v.desk.giveBack(questions, refused.always)
		return
	}
	v.metrics.requests.WithLabelValues("batch").Inc()
	answered := make([]*question, 0, len(questions))
	answers := make([]answer, 0, len(questions))
	var alone []*question
	for i, q := range questions {
		if err != nil {
			v.metrics.asked("no_answer", start)
			answered, answers = append(answered, q), append(answers, answer{err: err})
			continue
		}
		identity, verdict, ok := readResult(&results[i])
		if !ok {
			alone = append(alone, q)
			continue
		}
		v.metrics.asked(outcome(verdict), start)
		answered, answers = append(answered, q), append(answers, v.judge(q, identity, verdict))
	}
	v.desk.answer(answered, answers)
	if alone != nil {
		v.desk.giveBack(alone, false)
	}
}

// post asks about one token. The outcome is that of the metrics.
func (v *Verifier) post(ctx context.Context, token string) (identity push.Identity, told string, err error) {
	body, err := json.Marshal(push.VerifyRequest{Token: token})
	if err != nil {
		return push.Identity{}, "invalid", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	status, answer, err := v.exchange(ctx, verifyPath, body, maxAnswer)
	if err != nil {
		return push.Identity{}, "no_answer", err
	}
	identity, err = read(status, answer)
	return identity, outcome(err), err
}

// A refusal is an Auth that does not take a batch.
type refusal struct {
	always bool // it knows no batches at all
}

// postBatch asks about several tokens at once. Where there is neither a refusal
// nor an error, there is a result for each.
func (v *Verifier) postBatch(ctx context.Context, questions []*question) ([]push.VerifyResult, *refusal, error) {
	status, answer, err := v.exchange(ctx, verifyPath+"/batch", batchBody(questions), maxBatchAnswer)
	if err != nil {
		return nil, nil, err
	}
	switch status {
	case http.StatusOK:
		results, ok := readBatch(answer, len(questions))
		if !ok {
			return nil, &refusal{}, nil // whatever that is, it is no batch's answer
		}
		return results, nil, nil
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusForbidden:
		return nil, &refusal{always: true}, nil // an older Auth; a gateway says 403 where it has no route
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusInternalServerError:
		return nil, &refusal{}, nil // one token may be the cause, and the others are not to suffer
	}
	_, err = read(status, answer)
	return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// readResult turns the result of one token into an identity or an error of this
// package. ok is false if it says neither.
func readResult(r *push.VerifyResult) (identity *push.Identity, err error, ok bool) {
	switch {
	case r.Problem != nil:
		return nil, verdict(r.Problem.Status, r.Problem.Code), true
	case r.Identity == nil:
		return nil, nil, false
	}
	if err := r.Identity.User.Check(); err != nil {
		return nil, fmt.Errorf("%w: Auth's answer: %w", ErrUnavailable, err), true
	}
	return r.Identity, nil, true
}

// exchange sends body once, and once more if no answer came because the
// connection failed: behind a balancer the second goes elsewhere. A missed
// deadline is not repeated, it would double the load on an Auth that is slow.
func (v *Verifier) exchange(ctx context.Context, path string, body []byte, most int64) (status int, answer []byte, err error) {
	resp, err := v.send(ctx, path, body)
	if err != nil && ctx.Err() == nil {
		v.metrics.retries.Inc()
		resp, err = v.send(ctx, path, body)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%w: ask Auth: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	var read bytes.Buffer
	if resp.ContentLength > 0 && resp.ContentLength <= most {
		read.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	n, err := read.ReadFrom(io.LimitReader(resp.Body, most+1))
	if err != nil || n > most {
		return 0, nil, fmt.Errorf("%w: Auth's answer is cut short or too long", ErrUnavailable)
	}
	return resp.StatusCode, read.Bytes(), nil
}

func (v *Verifier) send(ctx context.Context, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+path, bytes.NewReader(body))
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
	return push.Identity{}, verdict(status, p.Code)
}

// verdict returns what a problem of Auth's says of a token.
func verdict(status int, code push.Code) error {
	switch code {
	case push.CodeTokenExpired:
		return ErrExpired
	case push.CodeTokenInvalid, push.CodeBodyTooLarge:
		return ErrInvalid
	}
	return fmt.Errorf("%w: Auth answers %d %s", ErrUnavailable, status, code)
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
