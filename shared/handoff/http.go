package handoff

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

	"pushcluster/shared/push"
	"pushcluster/shared/signature"
)

// maxAnswer bounds what is read of an answer, in bytes: 1,000 problems fit.
const maxAnswer = 4 << 20

// newHTTPClient returns a client that signs, keeps its connections, follows no
// redirect and knows no proxy.
func newHTTPClient(signer *signature.Signer) *http.Client {
	dialer := net.Dialer{Timeout: time.Second}
	return &http.Client{
		Transport: &signature.Transport{
			Signer: signer,
			Base: &http.Transport{
				DialContext:         dialer.DialContext,
				MaxIdleConnsPerHost: 64,
				IdleConnTimeout:     time.Minute, // shorter than our servers keep one
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// encode returns the body of a request with as many of messages as fit into
// most bytes, but at least one, and how many those are.
func encode(messages []push.Message, again bool, most int) (body []byte, n int, err error) {
	var buf bytes.Buffer
	if again {
		buf.WriteString(`{"again":true,"messages":[`)
	} else {
		buf.WriteString(`{"messages":[`)
	}
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for ; n < len(messages); n++ {
		before := buf.Len()
		if n > 0 {
			buf.WriteByte(',')
		}
		err := enc.Encode(&messages[n])
		if n == 0 && err != nil {
			return nil, 0, fmt.Errorf("encode message %s: %w", messages[n].ID, err)
		}
		if n > 0 && (err != nil || buf.Len()+len(`]}`) > most) {
			buf.Truncate(before)
			break
		}
	}
	buf.WriteString(`]}`)
	return buf.Bytes(), n, nil
}

// An httpCarrier posts requests to one URL.
type httpCarrier struct {
	url    string
	client *http.Client
}

func newHTTP(url string, signer *signature.Signer) carrier {
	return &httpCarrier{url: url, client: newHTTPClient(signer)}
}

func (c *httpCarrier) most() int { return maxInvoke }

func (c *httpCarrier) ordered() bool { return true }

func (c *httpCarrier) carry(ctx context.Context, body []byte, messages []push.Message, errs []error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return transportError(ctx, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return transportError(ctx, err)
	}
	return readAnswer(res.StatusCode, raw, messages, errs)
}

func (c *httpCarrier) close() { c.client.CloseIdleConnections() }

// readAnswer sets errs to what Dispatch says came of each message. An error it
// returns concerns all of them.
func readAnswer(status int, raw []byte, messages []push.Message, errs []error) error {
	if status != http.StatusOK {
		p := &push.Problem{}
		if json.Unmarshal(raw, p) != nil || p.Code == "" {
			return fmt.Errorf("%w: status %d", ErrAnswer, status)
		}
		return p
	}
	var answer push.DispatchAnswer
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("%w: not JSON", ErrAnswer)
	}
	if len(answer.Results) != len(messages) {
		return fmt.Errorf("%w: %d results for %d messages", ErrAnswer, len(answer.Results), len(messages))
	}
	for i, r := range answer.Results {
		switch {
		case r.ID != messages[i].ID:
			errs[i] = fmt.Errorf("%w: its result is another message's", ErrAnswer)
		case r.Problem != nil:
			errs[i] = r.Problem
		}
	}
	return nil
}

// transportError tells a deadline from everything else, and leaves the URL out.
func transportError(ctx context.Context, err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err
	}
	if known, ok := invokeError(err); ok {
		return known
	}
	if netErr, ok := errors.AsType[net.Error](err); (ok && netErr.Timeout()) || ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
