package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"pushcluster/shared/push"
)

// The make-up of the load.
const (
	singles    = 20  // senders that post one message a request
	batchers   = 5   // senders that post batchSize messages a request
	batchSize  = 10  //
	topicShare = 0.1 // of the messages that go to a topic
	wideShare  = 0.03
	allEvery   = 700 * time.Millisecond // between two messages to everybody
	padding    = 80                     // bytes of data beyond the number
)

// retryPause is how long a sender waits before it tries again.
const retryPause = 200 * time.Millisecond

// A draft is a message on its way to Collect.
type draft struct {
	n    uint32
	body json.RawMessage
}

// A letter says what is to be posted.
type letter struct {
	To       push.Recipients `json:"to"`
	ID       string          `json:"id"`
	Data     any             `json:"data"`
	TTL      string          `json:"ttl,omitempty"`
	Collapse string          `json:"collapse_key,omitempty"`
}

type payload struct {
	N   uint32 `json:"n"`
	Pad string `json:"pad,omitempty"`
}

// write enters a message into the ledger and returns what is to be posted.
func (w *world) write(to push.Recipients, size int, ttl time.Duration, collapse string) draft {
	m := &message{collapse: collapse}
	for _, c := range to.List() {
		m.channels = append(m.channels, string(c))
	}
	if ttl > 0 {
		m.expires = time.Now().Add(ttl)
	}
	n := w.ledger.begin(m)
	l := letter{To: to, ID: fmt.Sprintf("m-%d", n), Data: payload{N: n, Pad: pad(size)}, Collapse: collapse}
	if ttl > 0 {
		l.TTL = ttl.String()
	}
	body, err := json.Marshal(l)
	if err != nil {
		panic(err) // nothing in a letter can fail to encode
	}
	return draft{n, body}
}

func pad(size int) string { return string(bytes.Repeat([]byte{'x'}, size)) }

// post posts drafts, as an array if there are several, again and again under
// the same ids until Collect has accepted all of them or ctx ends.
func (w *world) post(ctx context.Context, drafts ...draft) {
	for first := true; len(drafts) > 0; first = false {
		if !first {
			w.retries.Add(1)
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryPause):
			}
		}
		tries := 1
		if w.twice.Load() {
			tries = 2
		}
		var wg sync.WaitGroup
		refused := make([]map[uint32]bool, tries)
		for i := range tries {
			wg.Go(func() { refused[i] = w.postOnce(ctx, drafts) })
		}
		wg.Wait()
		var again []draft
		for _, d := range drafts {
			if all(refused, d.n) {
				again = append(again, d)
			}
		}
		drafts = again
	}
}

func all(refused []map[uint32]bool, n uint32) bool {
	for _, r := range refused {
		if !r[n] {
			return false
		}
	}
	return true
}

// postOnce makes one request and returns the messages that were not accepted.
func (w *world) postOnce(ctx context.Context, drafts []draft) (refused map[uint32]bool) {
	refused = make(map[uint32]bool)
	for _, d := range drafts {
		refused[d.n] = true
	}
	body := []byte(drafts[0].body)
	if len(drafts) > 1 {
		parts := make([][]byte, len(drafts))
		for i, d := range drafts {
			parts[i] = d.body
		}
		body = append(append([]byte{'['}, bytes.Join(parts, []byte{','})...), ']')
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cluster.collectURL+"/v1/messages", bytes.NewReader(body))
	if err != nil {
		return refused
	}
	req.Header.Set("X-API-Key", w.cluster.apiKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := w.http.Do(req)
	if err != nil {
		w.answers.add(0)
		return refused
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	w.answers.add(uint32(res.StatusCode))
	if err != nil || res.StatusCode/100 != 2 {
		return refused
	}
	for i, ok := range acceptedIn(answer, len(drafts)) {
		if ok {
			w.ledger.accept(drafts[i].n)
			delete(refused, drafts[i].n)
		}
	}
	return refused
}

// acceptedIn says which of n messages an answer of 2xx accepts.
func acceptedIn(answer []byte, n int) []bool {
	accepted := make([]bool, n)
	if n == 1 {
		accepted[0] = true
		return accepted
	}
	var items []struct {
		ID     push.MessageID `json:"id"`
		Status int            `json:"status"` // of a problem
	}
	if json.Unmarshal(answer, &items) != nil || len(items) != n {
		return accepted
	}
	for i, item := range items {
		accepted[i] = item.Status == 0 && item.ID != ""
	}
	return accepted
}

// load posts messages at the world's rate until ctx ends, and returns when every
// request has been answered or given up; giveUp ends those that are tried again.
func (w *world) load(ctx, giveUp context.Context) {
	var wg sync.WaitGroup
	half := float64(w.opts.Rate) / 2
	for i := range singles {
		rng := w.random(uint64(100 + i))
		wg.Go(func() {
			w.pace(ctx, rng, time.Duration(float64(time.Second)*singles/half), func() {
				w.post(giveUp, w.anyMessage(rng))
			})
		})
	}
	for i := range batchers {
		rng := w.random(uint64(200 + i))
		wg.Go(func() {
			w.pace(ctx, rng, time.Duration(float64(time.Second)*batchers*batchSize/half), func() {
				drafts := make([]draft, batchSize)
				for i := range drafts {
					drafts[i] = w.anyMessage(rng)
				}
				w.post(giveUp, drafts...)
			})
		})
	}
	rng := w.random(300)
	wg.Go(func() {
		w.pace(ctx, rng, allEvery, func() { w.post(giveUp, w.write(push.Recipients{All: true}, padding, 0, "")) })
	})
	wg.Wait()
}

// anyMessage writes a message to somebody.
func (w *world) anyMessage(rng *rand.Rand) draft {
	var to push.Recipients
	switch x := rng.Float64(); {
	case x < topicShare:
		to.Channels = []push.Channel{w.topics[rng.IntN(len(w.topics))]}
	case x < topicShare+wideShare:
		for range 5 {
			to.Users = append(to.Users, w.users[rng.IntN(len(w.users))])
		}
	default:
		to.Users = []push.UserID{w.users[rng.IntN(len(w.users))]}
	}
	return w.write(to, padding, 0, "")
}

// pace calls f at a pace until ctx ends. A call that takes long delays those
// after it, and what was missed is not made up for.
func (w *world) pace(ctx context.Context, rng *rand.Rand, every time.Duration, f func()) {
	next := time.Now().Add(time.Duration(rng.Int64N(int64(every))))
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		f()
		if next = next.Add(every); time.Since(next) > time.Second {
			next = time.Now()
		}
	}
}
