package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// A Health is what one service says of itself.
type Health struct {
	Service string        `json:"service"`
	URL     string        `json:"url"`
	Ready   bool          `json:"ready"`
	Reason  string        `json:"reason,omitempty"` // why it is not
	Took    time.Duration `json:"-"`
}

// Ready asks /readyz of the service at base, which is called name.
func (c *Client) Ready(ctx context.Context, name, base string) Health {
	h := Health{Service: name, URL: base}
	began := time.Now()
	res, err := c.send(ctx, call{to: service{name, base}, method: "GET", path: "/readyz", open: true})
	if err == nil {
		defer res.Body.Close()
		var raw []byte
		raw, err = io.ReadAll(io.LimitReader(res.Body, 64<<10))
		switch p := decodeProblem(raw); {
		case err != nil:
		case res.StatusCode == http.StatusOK && string(bytes.TrimSpace(raw)) == "ok":
			h.Ready = true
		case res.StatusCode == http.StatusOK:
			err = errors.New("answered by something else than pushcluster")
		case p != nil:
			err = errors.New(p.Detail)
		default:
			err = errors.New(res.Status)
		}
	}
	h.Took = time.Since(began)
	if fault, ok := errors.AsType[*Error](err); ok && fault.Err != nil {
		err = fault.Err
	}
	if err != nil {
		h.Reason = err.Error()
	}
	return h
}
