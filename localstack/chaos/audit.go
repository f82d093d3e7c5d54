package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
)

// auditSample is how many messages of each kind an audit asks about.
const auditSample = 150

// proofTime is how long after its arrival a device has proved that it has a
// message: it is pinged within a second, and its pong is written down in batches.
const proofTime = 5 * time.Second

// A stateAnswer is what Collect says of a message.
type stateAnswer struct {
	Recipients []struct {
		Channel string `json:"channel"`
		Devices []struct {
			Device push.Device `json:"device"`
			State  string      `json:"state"`
		} `json:"devices"`
	} `json:"recipients"`
	Next string `json:"next"`
}

// auditStates asks Collect about messages, those that devices were spared among
// them, and compares the answers with what the devices received: nothing may be
// called received that was not, and nothing that was may be called otherwise.
func auditStates(ctx context.Context, w *world) error {
	if err := w.rest(ctx, proofTime); err != nil {
		return err
	}
	devices := make(map[push.Device]*client)
	for _, c := range w.clients {
		if c.device != "" {
			devices[c.device] = c
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, n := range w.auditSample() {
		g.Go(func() error { return w.auditState(gctx, n, devices) })
	}
	return g.Wait()
}

// auditSample picks accepted messages: plain ones, and ones that expire or
// collapse.
func (w *world) auditSample() []uint32 {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	var sample []uint32
	plain, special := 0, 0
	rng := w.random(17)
	for _, i := range rng.Perm(len(w.ledger.messages)) {
		m := w.ledger.messages[i]
		count := &plain
		if m.collapse != "" || !m.expires.IsZero() {
			count = &special
		}
		if !m.accepted.IsZero() && *count < auditSample {
			*count++
			sample = append(sample, uint32(i))
		}
	}
	return sample
}

func (w *world) auditState(ctx context.Context, n uint32, devices map[push.Device]*client) error {
	answer, err := w.askState(ctx, n)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range answer.Recipients {
		for _, d := range r.Devices {
			c := devices[d.Device]
			if c == nil || c.followers[r.Channel] == nil {
				continue
			}
			f := c.followers[r.Channel]
			f.mu.Lock()
			got, ok := f.got[n]
			f.mu.Unlock()
			received := d.State == "received" || d.State == "acknowledged"
			switch {
			case received && !ok:
				errs = append(errs, fmt.Errorf("message %d is called %s by %s in %s, which never got it", n, d.State, d.Device, r.Channel))
			case !received && ok && time.Since(got.at) > proofTime && c.whole():
				errs = append(errs, fmt.Errorf("message %d is called %s for %s in %s, which got it", n, d.State, d.Device, r.Channel))
			}
		}
	}
	return errors.Join(errs...)
}

func (w *world) askState(ctx context.Context, n uint32) (stateAnswer, error) {
	var answer stateAnswer
	id := url.PathEscape(fmt.Sprintf("%s/m-%d", keyName, n))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.cluster.collectURL+"/v1/messages/"+id, nil)
	if err != nil {
		return answer, err
	}
	req.Header.Set("X-API-Key", w.cluster.apiKey)
	res, err := w.http.Do(req)
	if err != nil {
		return answer, fmt.Errorf("ask about message %d: %w", n, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("ask about message %d: %s", n, res.Status)
	}
	return answer, json.NewDecoder(res.Body).Decode(&answer)
}
