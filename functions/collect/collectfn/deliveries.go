package collectfn

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
)

// Bounds of one page of deliveries.
const (
	pageDeliveries    = 50
	maxPageDeliveries = 200
	maxPageDetails    = 2 << 20 // bytes of what is known of them: an answer must fit into Lambda's 6 MiB
)

// keptOutcomes returns all that a kept delivery can have.
func keptOutcomes() []string {
	return []string{outcomeAccepted, outcomeNoRule, outcomeNobody, outcomeParked, outcomeRefused, outcomeChallenge}
}

// A deliveryList is one page of a source's deliveries, the newest first.
type deliveryList struct {
	Deliveries []keptDelivery `json:"deliveries"`
	Next       string         `json:"next,omitempty"` // is ?before= of the page behind this one
}

// A keptDelivery is a delivery in a list.
type keptDelivery struct {
	ID         string       `json:"id"`
	Outcome    string       `json:"outcome"`
	Verified   bool         `json:"verified"` // the signature held
	ReceivedAt time.Time    `json:"received_at"`
	Receipts   int          `json:"receipts,omitempty"` // how often it came; not of what was refused
	LastAt     time.Time    `json:"last_at,omitzero"`   // when it last came, if more than once
	Replays    int          `json:"replays,omitempty"`  // how often it was sent again
	ReplayedAt time.Time    `json:"replayed_at,omitzero"`
	ExpiresAt  time.Time    `json:"expires_at"`
	Remote     string       `json:"remote_addr,omitempty"`
	Size       int          `json:"body_size"`
	Replayable bool         `json:"replayable"`
	Messages   []accepted   `json:"messages"`
	Failed     []ruleResult `json:"failed,omitempty"`
	Refusal    *refusal     `json:"refusal,omitempty"`
}

// A wholeDelivery is all that is kept of one.
type wholeDelivery struct {
	keptDelivery
	Rules      []ruleResult      `json:"rules"`
	Headers    map[string]string `json:"headers,omitempty"`
	Hidden     []string          `json:"hidden_headers,omitempty"` // which carried secrets, and are not kept
	Query      map[string]string `json:"query,omitempty"`
	SHA256     string            `json:"body_sha256,omitempty"` // of a body that is not kept
	Body       json.RawMessage   `json:"body,omitempty"`        // one that is JSON
	BodyText   string            `json:"body_text,omitempty"`   // one that is another text
	BodyBase64 string            `json:"body_base64,omitempty"` // any other
}

func newKeptDelivery(d *store.Delivery, detail *deliveryDetail) keptDelivery {
	a := keptDelivery{
		ID: d.ID, Outcome: d.Outcome, Verified: detail.Verified, ReceivedAt: d.ReceivedAt.UTC(), Receipts: d.Receipts, Replays: d.Replays,
		ReplayedAt: detail.ReplayedAt, ExpiresAt: d.Until.UTC(), Remote: detail.Remote, Size: detail.Size, Replayable: detail.Whole,
		Messages: messagesOf(detail.Rules), Failed: failuresOf(detail.Rules), Refusal: detail.Refusal,
	}
	if detail.Refusal != nil {
		a.Receipts = 0 // others were refused in its place
	} else if d.Receipts > 1 {
		a.LastAt = d.LastAt.UTC()
	}
	return a
}

// messagesOf returns the messages among results.
func messagesOf(results []ruleResult) []accepted {
	list := []accepted{}
	for _, r := range results {
		if r.Message != "" {
			list = append(list, accepted{r.Message})
		}
	}
	return list
}

// listDeliveries answers what came of a source: GET
// /v1/sources/{source}/deliveries.
func (h *Handler) listDeliveries(w http.ResponseWriter, r *http.Request) {
	if _, ok := h.holder(w, r); !ok {
		return
	}
	q, p := deliveriesQuery(r)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	_, missing := h.sourceSet(r.Context()).Source(r.Context(), q.Source)
	if missing != nil && rule.CheckName(q.Source) != nil {
		h.refuse(w, r, push.NewProblem(push.CodeNotFound, "there is no source of this name"))
		return
	}
	limit := q.Limit
	q.Limit++ // to know whether there are more
	found, err := h.store.ListDeliveries(r.Context(), q)
	if !h.answered(w, r, err) {
		return
	}
	if len(found) == 0 { // one that was removed may have left some
		switch {
		case errors.Is(missing, source.ErrNone):
			h.refuse(w, r, push.NewProblem(push.CodeNotFound, "there is no source of this name, and no delivery like that is kept of one"))
			return
		case errors.Is(missing, source.ErrUnread):
			h.refuse(w, r, noSource(missing))
			return
		}
	}
	list := deliveryList{Deliveries: []keptDelivery{}}
	size := 0
	for i := range found {
		if size += len(found[i].Detail); i == limit || i > 0 && size > maxPageDetails {
			list.Next = encodeMark(deliveryMark(found[i-1].Place()))
			break
		}
		detail := detailOf(&found[i])
		list.Deliveries = append(list.Deliveries, newKeptDelivery(&found[i], &detail))
	}
	h.metrics.orders.WithLabelValues("deliveries").Inc()
	serve.JSON(w, http.StatusOK, list)
}

// deliveriesQuery reads what r asks for.
func deliveriesQuery(r *http.Request) (store.DeliveriesQuery, *push.Problem) {
	q := store.DeliveriesQuery{Source: r.PathValue("source"), Newest: true, Limit: pageDeliveries}
	query, p := queryOf(r, "outcome", "before", "limit")
	if p != nil {
		return q, p
	}
	if q.Outcome = query["outcome"]; q.Outcome != "" {
		if p := checkOutcome(q.Outcome); p != nil {
			return q, p
		}
	}
	if text := query["limit"]; text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPageDeliveries {
			return q, push.NewProblem(push.CodeBadRequest, "limit must be a number from 1 to %d", maxPageDeliveries)
		}
		q.Limit = n
	}
	if text := query["before"]; text != "" {
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			q.Before = store.DeliveryPlace{At: at}
			return q, nil
		}
		mark, err := decodeMark[deliveryMark](text)
		if err != nil {
			return q, push.NewProblem(push.CodeBadRequest, "before must be a time such as 2026-01-31T09:30:00Z, or the next of an answer")
		}
		q.Before = store.DeliveryPlace(mark)
	}
	return q, nil
}

func checkOutcome(outcome string) *push.Problem {
	known := keptOutcomes()
	if slices.Contains(known, outcome) {
		return nil
	}
	return push.NewProblem(push.CodeInvalidValue, "there is no outcome %q; there are %s", push.Clip(outcome, 40), strings.Join(known, ", "))
}

// getDelivery answers one delivery: GET /v1/sources/{source}/deliveries/{id...}.
func (h *Handler) getDelivery(w http.ResponseWriter, r *http.Request) {
	if _, ok := h.holder(w, r); !ok {
		return
	}
	if _, p := queryOf(r); p != nil {
		h.refuse(w, r, p)
		return
	}
	kept, ok := h.load(w, r, r.PathValue("source"), r.PathValue("id"))
	if !ok {
		return
	}
	detail := detailOf(&kept)
	a := wholeDelivery{keptDelivery: newKeptDelivery(&kept, &detail), Rules: detail.Rules, Headers: detail.Headers,
		Hidden: detail.Hidden, Query: masked(detail.Query), SHA256: detail.SHA256}
	if a.Rules == nil {
		a.Rules = []ruleResult{}
	}
	switch {
	case len(kept.Body) == 0:
	case !utf8.Valid(kept.Body):
		a.BodyBase64 = base64.StdEncoding.EncodeToString(kept.Body)
	case json.Valid(kept.Body):
		a.Body = kept.Body
	default:
		a.BodyText = string(kept.Body)
	}
	h.metrics.orders.WithLabelValues("delivery").Inc()
	serve.JSON(w, http.StatusOK, a)
}

// masked returns the parameters of a query without the values that are secrets:
// rules may see those, and nobody else.
func masked(query map[string]string) map[string]string {
	shown := make(map[string]string, len(query))
	for name, value := range query {
		if secretName(strings.ToLower(name)) {
			value = "(hidden)"
		}
		shown[name] = value
	}
	return shown
}
