package signature

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"
)

// A Transport signs every request that passes it, each under a new id. The body
// is read whole before anything is sent, so it must fit in memory.
type Transport struct {
	Signer *Signer
	Base   http.RoundTripper // nil means http.DefaultTransport
	Now    func() time.Time  // nil means time.Now
}

// RoundTrip signs a copy of r and sends it.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var read bytes.Buffer
		if r.ContentLength > 0 {
			read.Grow(int(r.ContentLength) + bytes.MinRead) // read in one piece
		}
		_, err := read.ReadFrom(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("read the body to sign: %w", err)
		}
		body = read.Bytes()
	}
	signed := r.Clone(r.Context())
	if len(body) == 0 {
		signed.Body, signed.GetBody, signed.ContentLength = http.NoBody, nil, 0
	} else {
		signed.Body = io.NopCloser(bytes.NewReader(body))
		signed.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		signed.ContentLength = int64(len(body))
	}
	now := time.Now
	if t.Now != nil {
		now = t.Now
	}
	if err := t.Signer.Sign(signed.Header, newID(), now(), body); err != nil {
		return nil, err
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	return base.RoundTrip(signed)
}

// CloseIdleConnections closes the idle connections of the transport below.
func (t *Transport) CloseIdleConnections() {
	type closer interface{ CloseIdleConnections() }
	if c, ok := t.Base.(closer); ok {
		c.CloseIdleConnections()
	}
}

func newID() string {
	var random [16]byte
	rand.Read(random[:])
	return "req_" + hex.EncodeToString(random[:])
}
