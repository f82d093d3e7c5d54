package collectfn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"pushcluster/functions/collect/address"
	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// Bounds of what is kept of one delivery, in bytes. Of one that is larger its
// size and hash are.
const (
	maxKeptBody    = 256 << 10
	maxKeptHeaders = 32 << 10 // names and values, the query's too
)

// Bounds of what is kept of one source. Beyond them the oldest go, at the latest
// some trimEvery deliveries or trimBytes later.
const (
	maxKept      = 10_000
	maxKeptBytes = 64 << 20
	trimEvery    = 500
	trimBytes    = 1 << 20
)

// Of what is refused a source has refusedSlots places, each of which the next
// one may take, and every process takes one in refusedEvery: whoever can post
// without a secret can neither fill the store nor keep it busy.
const (
	refusedSlots = 20
	refusedEvery = time.Second
)

// asideTime is how long a sender waits for what is done beside its delivery.
const asideTime = 2 * time.Second

// A deliveryDetail is what is kept of a delivery beside its body. It is written
// into the store as JSON, and read by later versions of this program.
type deliveryDetail struct {
	Remote   string            `json:"remote,omitempty"` // the address it came from
	Headers  map[string]string `json:"headers,omitempty"`
	Hidden   []string          `json:"hidden,omitempty"` // headers that are not kept
	Query    map[string]string `json:"query,omitempty"`
	Size     int               `json:"size"`               // of the body as it came
	SHA256   string            `json:"sha256,omitempty"`   // of a body that is not kept
	Verified bool              `json:"verified,omitempty"` // the signature held
	Whole    bool              `json:"whole,omitempty"`    // headers, query and body are kept: it can be replayed
	Event    bool              `json:"event,omitempty"`    // the body is one event of a batch, in structured form
	Halves   bool              `json:"halves,omitempty"`   // and what came had half characters, which it has no more

	Rules   []ruleResult `json:"rules,omitempty"`
	Refusal *refusal     `json:"refusal,omitempty"`

	ReplayedAt time.Time `json:"replayed_at,omitzero"`
}

// A refusal is why a delivery was not taken.
type refusal struct {
	Code   push.Code `json:"code"`
	Detail string    `json:"detail,omitempty"`
}

// A received is one request with a verified webhook, as it is kept.
type received struct {
	detail deliveryDetail
	body   []byte
	batch  bool // of events, each of which is a delivery
	whole  bool // small enough to be kept
}

func (h *Handler) newReceived(r *http.Request, body []byte, batch bool, d *delivery, hidden []string) *received {
	raw := &received{body: body, batch: batch}
	raw.detail = deliveryDetail{Remote: h.remote(r), Headers: d.in.Headers, Hidden: hidden, Query: d.in.Query, Size: len(body), Verified: true}
	size := 0
	for name, value := range d.in.Headers {
		size += len(name) + len(value)
	}
	for name, value := range d.in.Query {
		size += len(name) + len(value)
	}
	raw.whole = size <= maxKeptHeaders && (batch || len(body) <= maxKeptBody)
	return raw
}

// records returns what is kept of each event. Those of a batch are kept one by
// one: as structured events, because there is no other form of one alone.
func (raw *received) records(d *delivery, list []mapped) []store.Delivery {
	if d.source.Retain == 0 {
		return nil
	}
	records := make([]store.Delivery, len(list))
	for i := range list {
		detail, body := raw.detail, raw.body
		whole := raw.whole
		if raw.batch {
			body, detail.Event = encodeEvent(list[i].event), true
			detail.Size, detail.Halves = len(body), list[i].event.halves
			whole = whole && body != nil && len(body) <= maxKeptBody
		}
		detail.Rules = list[i].results
		outcome := list[i].outcome
		if !whole {
			if outcome == outcomeParked {
				outcome = outcomeRefused // nobody could replay it
			}
			detail.drop(body)
			body = nil
		}
		detail.Whole = whole
		records[i] = newRecord(d.source, list[i].event.id, d.in.ReceivedAt, outcome, &detail, body)
	}
	return records
}

// drop leaves out what is too large.
func (detail *deliveryDetail) drop(body []byte) {
	sum := sha256.Sum256(body)
	detail.SHA256 = hex.EncodeToString(sum[:])
	detail.Headers, detail.Query, detail.Whole = nil, nil, false
}

// encodeEvent returns an event as JSON, nil if it is none.
func encodeEvent(e event) []byte {
	body, err := json.Marshal(e.body)
	if err != nil {
		return nil // not reached: it was decoded from JSON
	}
	return body
}

// newRecord returns a delivery as the store keeps it.
func newRecord(src *source.Source, id string, at time.Time, outcome string, detail *deliveryDetail, body []byte) store.Delivery {
	return store.Delivery{
		Source: src.Name, ID: id, ReceivedAt: at, LastAt: at, Until: at.Add(src.Retain), Receipts: 1,
		Outcome: outcome, Settled: outcome == outcomeAccepted, Detail: detail.encode(), Body: body,
	}
}

func (detail *deliveryDetail) encode() []byte {
	text, err := json.Marshal(detail)
	if err != nil {
		return nil // not reached: it is texts, numbers and a time
	}
	return text
}

// detailOf reads the detail of a kept delivery; what cannot be read is empty.
func detailOf(d *store.Delivery) (detail deliveryDetail) {
	if json.Unmarshal(d.Detail, &detail) != nil {
		return deliveryDetail{}
	}
	return detail
}

// keep puts the deliveries of one request into the store, and by chance, once in
// a while, takes the oldest out of it. It reports whether all of them are kept.
func (h *Handler) keep(ctx context.Context, src *source.Source, records []store.Delivery) bool {
	if len(records) == 0 {
		return true
	}
	err := h.store.PutDeliveries(ctx, records)
	h.deliveries.Note(h.log, err)
	if err != nil {
		h.metrics.delivery(src.Name, "failed", len(records))
		return false
	}
	chance := 0.0
	for i := range records {
		what := "kept"
		if records[i].Body == nil {
			what = "hash"
		}
		h.metrics.delivery(src.Name, what, 1)
		chance += max(1.0/trimEvery, float64(records[i].Size())/trimBytes)
	}
	// By chance, because what other processes kept is not known here.
	if h.cfg.Chance() < chance {
		h.trim(ctx, src.Name)
	}
	return true
}

// trim takes the oldest deliveries of a source out of the store. A sender waits
// for it, so that it does not take long; the next one may have more time.
func (h *Handler) trim(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, asideTime)
	defer cancel()
	n, err := h.store.TrimDeliveries(ctx, name, maxKept, maxKeptBytes)
	h.deliveries.Note(h.log, err)
	h.metrics.delivery(name, "trimmed", n)
}

// parkUnsent has deliveries wait for a replay whose messages are stored, but
// could be neither handed to Dispatch nor put into the outbox. If the store does
// not take that either, the sender's repeat heals it: it was told to send it
// again.
func (h *Handler) parkUnsent(ctx context.Context, records []store.Delivery) {
	var judged []store.Delivery
	for _, d := range records {
		detail := detailOf(&d)
		if d.Outcome == outcomeAccepted && detail.Whole {
			detail.Rules = append(detail.Rules, ruleResult{Result: resultFailed,
				ruleFailure: ruleFailure{Kind: "unavailable", Reason: "its messages could not be handed on"}})
			d.Outcome, d.Settled, d.Detail = outcomeParked, false, detail.encode()
			judged = append(judged, d)
		}
	}
	err := h.store.JudgeDeliveries(context.WithoutCancel(ctx), judged)
	h.deliveries.Note(h.log, err)
}

// keepChallenge keeps that a sender asked whether we are here, without the body.
// It is of use while a source is set up, and nothing depends on it.
func (h *Handler) keepChallenge(ctx context.Context, d *delivery, raw *received, e event) {
	if d.source.Retain == 0 {
		return
	}
	detail := raw.detail
	headers := detail.Headers
	detail.drop(raw.body)
	if raw.whole {
		detail.Headers = headers
	}
	h.keepAside(ctx, d.source, newRecord(d.source, e.id, d.in.ReceivedAt, outcomeChallenge, &detail, nil))
}

// keepAside keeps a delivery of which nothing is promised.
func (h *Handler) keepAside(ctx context.Context, src *source.Source, record store.Delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), asideTime)
	defer cancel()
	h.keep(ctx, src, []store.Delivery{record})
}

// turnAway answers a delivery that is not taken, and keeps that it came: some of
// them, to help whoever sets the source up. A nil body was not read.
func (h *Handler) turnAway(w http.ResponseWriter, r *http.Request, src *source.Source, p *push.Problem, body []byte, verified bool) {
	now := h.now()
	slot, ok := h.refused.take(src.Name, now)
	if ok && src.Retain > 0 {
		visible, hidden := visibleHeaders(r.Header, src.Receiver.Scheme())
		in := rule.Input{Headers: visible, Query: firstQuery(r), ReceivedAt: now}
		raw := h.newReceived(r, body, false, &delivery{source: src, in: in}, hidden)
		detail := raw.detail
		detail.drop(body)
		if raw.whole {
			detail.Headers = visible
		}
		if body == nil {
			detail.SHA256 = "" // it was not read
		}
		detail.Verified = verified
		detail.Refusal = &refusal{p.Code, p.Detail}
		id := fmt.Sprintf("refused-%02d", slot)
		h.keepAside(r.Context(), src, newRecord(src, id, now, outcomeRefused, &detail, nil))
	}
	h.refuseWebhook(w, r, src, p)
}

// refusals says which refused deliveries are kept, and where.
type refusals struct {
	mu     sync.Mutex // guards what follows
	source map[string]refusedOf
}

type refusedOf struct {
	last time.Time
	slot int
}

// take returns the place for a delivery of a source that is refused at now; ok is
// false if it is not kept.
func (f *refusals) take(name string, now time.Time) (slot int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	of, known := f.source[name]
	if known && now.Sub(of.last).Abs() < refusedEvery {
		return 0, false
	}
	if !known {
		of.slot = rand.IntN(refusedSlots) // not where all other processes begin
	}
	if f.source == nil || len(f.source) > 4*source.MaxStored { // names come and go
		f.source = make(map[string]refusedOf)
	}
	f.source[name] = refusedOf{last: now, slot: (of.slot + 1) % refusedSlots}
	return of.slot, true
}

// remote returns the address that r came from, behind the proxies that are
// trusted; "" where none is to be had.
func (h *Handler) remote(r *http.Request) string {
	if from := address.Of(r, h.cfg.Proxies); from.IsValid() {
		return from.String()
	}
	return ""
}

// revive returns a kept delivery as it came, with its event. A problem says why
// it cannot be replayed.
func revive(src *source.Source, kept *store.Delivery) (*delivery, event, *push.Problem) {
	detail := detailOf(kept)
	if !detail.Whole {
		why := "its body was too large to be kept"
		if kept.Outcome == outcomeRefused || kept.Outcome == outcomeChallenge {
			why = "it is a " + kept.Outcome + " one, of which no body is kept"
		}
		return nil, event{}, push.NewProblem(push.CodeConflict, "the delivery cannot be replayed: %s", why)
	}
	header := make(http.Header, len(detail.Headers))
	for name, value := range detail.Headers {
		header.Set(name, value)
	}
	if detail.Event {
		header.Set("Content-Type", structuredKind)
	}
	events, isBatch, p := readEvents(header, kept.Body, src.Receiver)
	if p == nil && (isBatch || len(events) != 1) {
		p = push.NewProblem(push.CodeConflict, "the delivery cannot be replayed: it is not one event")
	}
	if p != nil {
		return nil, event{}, p
	}
	in := rule.Input{Source: src.Name, Headers: detail.Headers, Query: detail.Query, ReceivedAt: kept.ReceivedAt.UTC()}
	if in.Headers == nil {
		in.Headers = map[string]string{}
	}
	if in.Query == nil {
		in.Query = map[string]string{}
	}
	return &delivery{source: src, in: in}, event{id: kept.ID, body: events[0].body, halves: events[0].halves || detail.Halves}, nil
}

// load returns a kept delivery of a source; ok is false if there is none, and r
// is answered.
func (h *Handler) load(w http.ResponseWriter, r *http.Request, name, id string) (kept store.Delivery, ok bool) {
	kept, err := h.store.LoadDelivery(r.Context(), name, id)
	if errors.Is(err, store.ErrNotFound) {
		h.refuse(w, r, push.NewProblem(push.CodeNotFound, "no delivery of the id %q is kept of the source %q", id, name))
		return kept, false
	}
	return kept, h.answered(w, r, err)
}
