// Package cursorpost is a store whose cursor writes go through Dispatch. Nodes
// use it on SQLite: see [store.CursorBatch].
package cursorpost

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
	"pushcluster/shared/store"
)

// deadline bounds one write where the context does not end sooner.
const deadline = 5 * time.Second

// maxBatch is how many cursors or exceptions one request carries, well below
// what Dispatch takes.
const maxBatch = 1000

// A Store reads for itself and writes cursors through Dispatch.
type Store struct {
	store.Store
	url    string
	client *http.Client
}

// New returns st with its cursor writes sent to Dispatch at the base URL
// dispatch, through client, which signs. It does no I/O.
func New(st store.Store, dispatch string, client *http.Client) (*Store, error) {
	if err := CheckURL(dispatch); err != nil {
		return nil, err
	}
	return &Store{Store: st, url: strings.TrimSuffix(dispatch, "/") + "/v1/dispatch/cursors", client: client}, nil
}

// CheckURL returns nil if dispatch is one that [New] takes.
func CheckURL(dispatch string) error {
	u, err := url.Parse(dispatch)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.ContainsAny(dispatch, "?#") {
		return errors.New("it must be http://HOST:PORT, without query or fragment")
	}
	return nil
}

// AdvanceCursors does what the contract says, through Dispatch.
func (s *Store) AdvanceCursors(ctx context.Context, cursors []store.Cursor) error {
	for len(cursors) > 0 {
		n := min(len(cursors), maxBatch)
		if err := s.post(ctx, store.CursorBatch{Advance: cursors[:n]}); err != nil {
			return err
		}
		cursors = cursors[n:]
	}
	return nil
}

// TouchCursors does what the contract says, through Dispatch.
func (s *Store) TouchCursors(ctx context.Context, cursors []store.Cursor) error {
	for len(cursors) > 0 {
		n := min(len(cursors), maxBatch)
		if err := s.post(ctx, store.CursorBatch{Touch: cursors[:n]}); err != nil {
			return err
		}
		cursors = cursors[n:]
	}
	return nil
}

// Spare does what the contract says, through Dispatch.
func (s *Store) Spare(ctx context.Context, spared []store.Spared) error {
	for len(spared) > 0 {
		n := min(len(spared), maxBatch)
		if err := s.post(ctx, store.CursorBatch{Spared: spared[:n]}); err != nil {
			return err
		}
		spared = spared[n:]
	}
	return nil
}

// RemoveCursors does what the contract says, through Dispatch.
func (s *Store) RemoveCursors(ctx context.Context, user push.UserID, device push.Device, channels []push.Channel) error {
	return s.post(ctx, store.CursorBatch{Remove: []store.CursorsRemoved{{User: user, Device: device, Channels: channels}}})
}

// ForgetDevices does what the contract says, through Dispatch.
func (s *Store) ForgetDevices(ctx context.Context, user push.UserID, devices []push.Device, quiet time.Time) error {
	return s.post(ctx, store.CursorBatch{Forget: []store.DevicesQuiet{{User: user, Devices: devices, Quiet: quiet}}})
}

func (s *Store) post(ctx context.Context, batch store.CursorBatch) error {
	body, err := json.Marshal(batch)
	if err != nil {
		return fmt.Errorf("encode cursors: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post cursors: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("post cursors: %w: %w", store.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // so that the connection is used again
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("post cursors: %w: Dispatch answers %s", store.ErrUnavailable, resp.Status)
	}
	return nil
}
