package collectfn

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
)

// Bounds of an order about many deliveries. What is left over is for the next
// order; a function on AWS has 30 s and 6 MiB.
const (
	longDefault = 1000    // deliveries
	longMost    = 10_000  // deliveries
	longBytes   = 3 << 20 // of the answer, give or take a line
	longTime    = 20 * time.Second
	longPage    = 50 // deliveries that are read at once
	longAtOnce  = 2  // orders under way in one process
)

// A deliveryRange is which deliveries of a source an order is about: those from
// From on and before To, the oldest first.
type deliveryRange struct {
	From    *time.Time `json:"from"`
	To      *time.Time `json:"to"` // nil: now
	Outcome string     `json:"outcome"`
	Limit   int        `json:"limit"` // 0: longDefault
	Next    string     `json:"next"`  // of the answer before; instead of From
}

// query checks a range and returns the query of its first page.
func (rng *deliveryRange) query(name string, now time.Time) (q store.DeliveriesQuery, p *push.Problem) {
	q = store.DeliveriesQuery{Source: name, Outcome: rng.Outcome, Bodies: true, Limit: longPage}
	if rng.Outcome != "" {
		if p := checkOutcome(rng.Outcome); p != nil {
			return q, p
		}
	}
	switch {
	case rng.Next != "":
		mark, err := decodeMark[deliveryMark](rng.Next)
		if err != nil {
			return q, push.NewProblem(push.CodeInvalidValue, "%v", err)
		}
		q.After = store.DeliveryPlace(mark)
	case rng.From == nil:
		return q, push.NewProblem(push.CodeInvalidValue, "from is missing: give the time that the first of the deliveries came, or the next of an answer")
	default:
		q.After = store.DeliveryPlace{At: *rng.From}
	}
	q.Before = store.DeliveryPlace{At: now}
	if rng.To != nil {
		q.Before.At = *rng.To
	}
	if !q.Before.At.After(q.After.At) {
		return q, push.NewProblem(push.CodeInvalidValue, "to is not later than from")
	}
	if rng.Limit == 0 {
		rng.Limit = longDefault
	}
	if rng.Limit < 1 || rng.Limit > longMost {
		return q, push.NewProblem(push.CodeInvalidValue, "limit must be from 1 to %d", longMost)
	}
	return q, nil
}

// A long is an order about many deliveries under way. Its answer is one line of
// JSON for each of them, written as it goes, and a last one that sums up.
type long struct {
	w       http.ResponseWriter
	began   bool
	written int
	ends    time.Time
	left    int // deliveries
}

// summary is the last line of an answer.
type summary struct {
	Deliveries int            `json:"deliveries"` // lines before this one
	Results    map[string]int `json:"results"`    // how many of each
	More       bool           `json:"more"`       // there may be more in the range
	Next       string         `json:"next,omitempty"`
	Problem    *push.Problem  `json:"problem,omitempty"` // why it ended early
}

// line writes one line. It reports false if the answer has become too long, or
// nobody reads it.
func (l *long) line(v any) bool {
	text, err := json.Marshal(v)
	if err != nil {
		return false // not reached: lines are texts and numbers
	}
	if !l.began {
		l.began = true
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		l.w.WriteHeader(http.StatusOK)
	}
	n, err := l.w.Write(append(text, '\n'))
	l.written += n
	return err == nil && l.written < longBytes
}

// over reports whether the order has to end here.
func (l *long) over(ctx context.Context, now time.Time) bool {
	return l.left <= 0 || l.written >= longBytes || !now.Before(l.ends) || ctx.Err() != nil
}

// walk calls each for pages of the deliveries of q until the order is over. Each
// returns how many of a page it has done, and the result of each of them; if it
// did not do all, the order ends.
func (h *Handler) walk(w http.ResponseWriter, r *http.Request, rng *deliveryRange, q store.DeliveriesQuery,
	each func(ctx context.Context, l *long, page []store.Delivery) (results []string, p *push.Problem)) {
	select {
	case h.long <- struct{}{}:
		defer func() { <-h.long }()
	default:
		h.refuse(w, r, push.NewProblem(push.CodeTooManyRequests, "%d such orders are under way here; wait for one to end", longAtOnce))
		return
	}
	l := &long{w: w, ends: time.Now().Add(longTime), left: rng.Limit}
	sum := summary{Results: make(map[string]int)}
	for {
		q.Limit = min(longPage, l.left)
		page, err := h.store.ListDeliveries(r.Context(), q)
		if err != nil && !l.began {
			h.answered(w, r, err)
			return
		}
		if err != nil {
			sum.More, sum.Problem = true, push.NewProblem(push.CodeUnavailable, "the store is away")
			break
		}
		results, p := each(r.Context(), l, page)
		for i, result := range results {
			sum.Deliveries++
			sum.Results[result]++
			q.After = page[i].Place()
		}
		l.left -= len(results)
		sum.Problem = p
		full := len(page) == q.Limit
		sum.More = len(results) < len(page) || full && len(page) > 0
		if !sum.More || p != nil || len(results) < len(page) || l.over(r.Context(), time.Now()) {
			break
		}
		_ = http.NewResponseController(w).Flush() // a client that left is found out by its context
	}
	if sum.More {
		sum.Next = encodeMark(deliveryMark(q.After))
	}
	l.line(struct {
		Summary summary `json:"summary"`
	}{sum})
}

// sourceFor returns the source in force that an order is about, and the name of
// the key that gives it; ok is false if there is none, and r is answered.
func (h *Handler) sourceFor(w http.ResponseWriter, r *http.Request) (src *source.Source, key string, ok bool) {
	key, ok = h.holder(w, r)
	if !ok {
		return nil, "", false
	}
	if _, p := queryOf(r); p != nil {
		h.refuse(w, r, p)
		return nil, "", false
	}
	src, err := h.sourceSet(r.Context()).Source(r.Context(), r.PathValue("source"))
	if err != nil {
		h.refuse(w, r, noSource(err))
	}
	return src, key, err == nil
}

// decodeOrder reads the body of an order; an empty one says nothing.
func decodeOrder(w http.ResponseWriter, r *http.Request, v any) *push.Problem {
	body, p := serve.Body(w, r, MaxBody)
	if p != nil || len(body) == 0 {
		return p
	}
	return serve.DecodeBytes(body, v)
}
