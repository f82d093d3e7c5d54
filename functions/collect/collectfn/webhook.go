package collectfn

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
	"pushcluster/shared/telemetry"
)

// Sources says who may post webhooks. source.File is one.
type Sources interface {
	// Set returns the sources of now. It may take as long as reading a file does.
	Set(ctx context.Context) *source.Set
}

// A deliveryAnswer is the answer to one delivery.
type deliveryAnswer struct {
	Delivery string     `json:"delivery"`
	Outcome  string     `json:"outcome"`
	Messages []accepted `json:"messages"`
	// Failed is why a delivery is parked.
	Failed []ruleResult `json:"failed,omitempty"`
}

// webhook takes one delivery of a source: it is verified on its raw bytes, told
// from repeats by its sender's id, mapped by the source's rules, and what they
// make goes the way of all messages. Nothing of it is decoded before it is
// verified, and nothing is hashed that is over the limit.
func (h *Handler) webhook(w http.ResponseWriter, r *http.Request) {
	src, ok := h.source(w, r)
	if !ok || !h.admit(w, r, src) {
		return
	}
	body, p := serve.Body(w, r, MaxBody)
	if p != nil {
		h.turnAway(w, r, src, p, nil, false)
		return
	}
	if p := unreadable(r.Header, src.Receiver); p != nil {
		h.turnAway(w, r, src, p, body, false)
		return
	}
	now := h.now()
	if _, err := src.Receiver.Verify(r.Header, body, now); err != nil {
		h.turnAway(w, r, src, src.Receiver.Problem(err), body, false)
		return
	}
	h.metrics.verified(src.Name)
	events, isBatch, p := readEvents(r.Header, body, src.Receiver)
	if p != nil {
		h.turnAway(w, r, src, p, body, true)
		return
	}
	visible, hidden := visibleHeaders(r.Header, src.Receiver.Scheme())
	in := rule.Input{Source: src.Name, Headers: visible, Query: firstQuery(r), ReceivedAt: now}
	d := delivery{source: src, in: in, trace: telemetry.Trace(r.Header)}
	raw := h.newReceived(r, body, isBatch, &d, hidden)
	if !isBatch {
		if a, asked := src.Receiver.Challenge(events[0].body); asked {
			h.keepChallenge(r.Context(), &d, raw, events[0])
			h.metrics.webhook(src.Name, outcomeChallenge)
			answer(w, a)
			return
		}
	}
	h.take(w, r, &d, events, raw)
}

// take maps events, keeps them, and accepts what their rules make, all at once.
// A delivery of which a rule fails is parked; where it cannot be, its sender
// hears of it instead, and may send it again once the rule is repaired.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, d *delivery, events []event, raw *received) {
	h.settle(w, r, d, h.mapAll(r.Context(), d, events), raw)
}

// settle is take for what the events were mapped to.
func (h *Handler) settle(w http.ResponseWriter, r *http.Request, d *delivery, list []mapped, raw *received) {
	records := raw.records(d, list)
	var drafts []*draft
	for i := range list {
		drafts = append(drafts, list[i].drafts...)
	}
	kept := false
	outcomes := h.acceptFirst(r.Context(), drafts, func(ctx context.Context) { kept = h.keep(ctx, d.source, records) })
	repeats := 0
	for _, o := range outcomes {
		if o.problem != nil {
			if kept {
				h.parkUnsent(r.Context(), records)
			}
			h.refuseWebhook(w, r, d.source, o.problem)
			return
		}
		if o.repeat {
			repeats++
		}
	}
	p := failure(list, records)
	if !kept {
		p = push.NewProblem(push.CodeUnavailable, "the store is away and the delivery could not be kept; send it again")
	}
	if p != nil {
		// What the other rules made is accepted, and a repeat of it changes nothing.
		h.refuseWebhook(w, r, d.source, p)
		return
	}
	h.metrics.sent(d.source.Name, len(drafts)-repeats)
	repeated := len(drafts) > 0 && repeats == len(drafts)
	if repeated {
		w.Header().Set(headerReplayed, "true")
	}
	answers := make([]deliveryAnswer, len(list))
	for i := range list {
		answers[i] = list[i].answer()
		if repeated && list[i].outcome == outcomeAccepted {
			h.metrics.webhook(d.source.Name, "repeated")
		} else {
			h.metrics.webhook(d.source.Name, list[i].outcome)
		}
	}
	if raw.batch {
		serve.JSON(w, http.StatusAccepted, answers)
		return
	}
	serve.JSON(w, http.StatusAccepted, answers[0])
}

// failure returns what the sender is told of rules that failed: nil where none
// did, or where the delivery is parked. One that ran out of time is parked too,
// but where that was for want of processors the sender's repeat heals it.
func failure(list []mapped, records []store.Delivery) (p *push.Problem) {
	for i := range list {
		if list[i].problem == nil {
			continue
		}
		if len(records) == 0 || records[i].Outcome != outcomeParked {
			return list[i].problem
		}
		for _, f := range list[i].failures() {
			if f.Kind == string(rule.KindTime) {
				p = push.NewProblem(push.CodeUnavailable, "rule %q ran out of time; send it again", f.Rule)
			}
		}
	}
	return p
}

// answer is what the sender of a delivery is told.
func (m *mapped) answer() deliveryAnswer {
	a := deliveryAnswer{Delivery: m.event.id, Outcome: m.outcome, Messages: []accepted{}, Failed: m.failures()}
	for _, made := range m.drafts {
		a.Messages = append(a.Messages, accepted{made.ID})
	}
	return a
}

// acceptFirst accepts drafts as accept does, but where an id is there already
// and its message reads otherwise, that one stands and is sent on again: a rule
// may have changed since the delivery came first, or the sender wrote the time
// of its second try into the body. Beside is called as acceptBeside does, once
// also where there is nothing to accept.
func (h *Handler) acceptFirst(ctx context.Context, drafts []*draft, beside func(context.Context)) []outcome {
	outcomes := h.acceptBeside(ctx, drafts, beside)
	var ids []push.MessageID
	for _, o := range outcomes {
		if o.problem != nil && o.problem.Code == push.CodeIDReused {
			ids = append(ids, o.id)
		}
	}
	if len(ids) == 0 {
		return outcomes
	}
	ctx = context.WithoutCancel(ctx)
	found, err := h.store.LoadMessages(ctx, ids)
	h.kept.Note(h.log, err)
	if err != nil {
		for i, o := range outcomes {
			if o.problem != nil {
				outcomes[i].problem = push.NewProblem(push.CodeUnavailable, "the store is away; send it again")
			}
		}
		return outcomes
	}
	var list []pending
	for i, o := range outcomes {
		if o.problem == nil || o.problem.Code != push.CodeIDReused {
			continue
		}
		outcomes[i] = outcome{id: o.id, repeat: true, first: i}
		first, ok := found[o.id]
		if ok && !first.Expired(h.now()) { // else its time is over, and so is its delivery
			list = append(list, pending{&draft{Record: first}, i})
		}
	}
	h.forward(ctx, list, outcomes)
	return outcomes
}

// handshake answers a sender of CloudEvents that asks for leave to send.
func (h *Handler) handshake(w http.ResponseWriter, r *http.Request) {
	src, ok := h.source(w, r)
	if !ok {
		return
	}
	if !h.allowed(r, src) {
		h.refuse(w, r, push.NewProblem(push.CodeAddressForbidden, "this source does not take webhooks from your address"))
		return
	}
	a, ok := signature.Handshake(r.Header, perMinute(src))
	if !ok {
		h.refuse(w, r, push.NewProblem(push.CodeBadRequest, "OPTIONS is for the handshake of CloudEvents, with WebHook-Request-Origin"))
		return
	}
	answer(w, a)
}

// source returns the source that r names; ok is false if there is none, and r is
// answered.
func (h *Handler) source(w http.ResponseWriter, r *http.Request) (*source.Source, bool) {
	name := r.PathValue("source")
	src, err := h.sourceSet(r.Context()).Source(r.Context(), name)
	switch {
	case err == nil && h.cfg.Keys.Has(src.Name):
		// Whoever has the key could take the ids of its messages before they come.
		h.refuseWebhook(w, r, src, push.NewProblem(push.CodeConflict, "the source has the name of an API key, and both begin message ids: rename it"))
		return nil, false
	case err == nil:
		return src, true
	}
	p := noSource(err)
	outcome := "unknown_source"
	if p.Code != push.CodeNotFound {
		outcome = string(p.Code)
	}
	h.metrics.webhook("", outcome)
	h.refuse(w, r, p)
	return nil, false
}

// noSource is what is told of a source that err keeps from being used. What is
// wrong with it is for its operator alone, who has GET /v1/sources.
func noSource(err error) *push.Problem {
	if errors.Is(err, source.ErrNone) {
		return push.NewProblem(push.CodeNotFound, "there is no source of this name")
	}
	if _, lasting := source.Lasting(err); lasting {
		return push.NewProblem(push.CodeSourceUnusable, "there is a source of this name, but its definition cannot be used: its operator has to put it again. "+
			"Nothing was taken; send it again then")
	}
	return push.NewProblem(push.CodeUnavailable, "the store or the source's secrets are away, so it is not known whether there is a source of this name; ask again")
}

// refuseWebhook answers with a problem and counts it under its source.
func (h *Handler) refuseWebhook(w http.ResponseWriter, r *http.Request, src *source.Source, p *push.Problem) {
	h.metrics.webhook(src.Name, string(p.Code))
	h.metrics.refusedOf(src.Name, p.Code)
	h.refuse(w, r, p)
}

func answer(w http.ResponseWriter, a signature.Answer) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.Status)
	w.Write(a.Body) // a client that left hears nothing, and needs nothing
}

// visibleHeaders returns what rules may see of the headers: all but those that
// hold secrets or signatures, whose names it returns too. Names are in lower case.
func visibleHeaders(h http.Header, scheme signature.Scheme) (visible map[string]string, hidden []string) {
	visible = make(map[string]string, len(h))
	for name, values := range h {
		lower := strings.ToLower(name)
		if strings.EqualFold(name, scheme.Header) || secretName(lower) {
			hidden = append(hidden, lower)
			continue
		}
		visible[lower] = strings.Join(values, ", ")
	}
	slices.Sort(hidden)
	return visible, hidden
}

// secretName reports whether what has this name, in lower case, is a secret, or
// a signature, which whoever has it may send once more.
func secretName(name string) bool {
	for _, part := range []string{"authorization", "cookie", "api-key", "apikey", "api_key", "signature", "hmac", "token", "secret", "passw", "credential"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// firstQuery returns the first value of each query parameter.
func firstQuery(r *http.Request) map[string]string {
	query := make(map[string]string)
	if r.URL.RawQuery == "" {
		return query
	}
	for name, values := range r.URL.Query() {
		query[name] = values[0]
	}
	return query
}
