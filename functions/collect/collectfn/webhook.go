package collectfn

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/telemetry"
)

// Sources says who may post webhooks. source.File is one.
type Sources interface {
	// Set returns the sources of now. It may take as long as reading a file does.
	Set(ctx context.Context) *source.Set
}

// Limits of what one request may make.
const (
	maxMapping = 2 * time.Second // for all rules on all its events
	maxMade    = MaxBatch        // messages
	maxMadeAll = 8 << 20         // bytes of data in all of them
)

// The outcomes of a delivery that was understood.
const (
	outcomeAccepted = "accepted"
	outcomeNoRule   = "no_rule_matched"
	outcomeNobody   = "nobody" // a rule matched, and addresses nobody
)

// A deliveryAnswer is the answer to one delivery.
type deliveryAnswer struct {
	Delivery string     `json:"delivery"`
	Outcome  string     `json:"outcome"`
	Messages []accepted `json:"messages"`
}

// webhook takes one delivery of a source: it is verified on its raw bytes, told
// from repeats by its sender's id, mapped by the source's rules, and what they
// make goes the way of all messages. Nothing of it is decoded before it is
// verified, and nothing is hashed that is over the limit.
func (h *Handler) webhook(w http.ResponseWriter, r *http.Request) {
	src, ok := h.source(w, r)
	if !ok {
		return
	}
	body, p := serve.Body(w, r, MaxBody)
	if p != nil {
		h.refuseWebhook(w, r, src, p)
		return
	}
	now := h.now()
	if _, err := src.Receiver.Verify(r.Header, body, now); err != nil {
		h.refuseWebhook(w, r, src, src.Receiver.Problem(err))
		return
	}
	events, isBatch, p := readEvents(r.Header, body, src.Receiver)
	if p != nil {
		h.refuseWebhook(w, r, src, p)
		return
	}
	if !isBatch {
		if a, asked := src.Receiver.Challenge(events[0].body); asked {
			h.metrics.webhook(src.Name, "challenge")
			answer(w, a)
			return
		}
	}
	in := rule.Input{Source: src.Name, Headers: visibleHeaders(r.Header, src.Receiver.Scheme()), Query: firstQuery(r), ReceivedAt: now}
	d := delivery{source: src, in: in, trace: telemetry.Trace(r.Header)}
	h.take(w, r, &d, events, isBatch)
}

// take maps events and accepts what their rules make, all at once.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, d *delivery, events []event, isBatch bool) {
	answers, drafts, failed := h.mapAll(r.Context(), d, events)
	outcomes := h.acceptFirst(r.Context(), drafts)
	repeats := 0
	for _, o := range outcomes {
		if o.problem != nil {
			h.refuseWebhook(w, r, d.source, o.problem)
			return
		}
		if o.repeat {
			repeats++
		}
	}
	if failed != nil {
		// What the other rules made is accepted, and a repeat of it changes nothing.
		h.refuse(w, r, failed)
		return
	}
	repeated := len(drafts) > 0 && repeats == len(drafts)
	if repeated {
		w.Header().Set(headerReplayed, "true")
	}
	for _, a := range answers {
		if repeated {
			h.metrics.webhook(d.source.Name, "repeated")
		} else {
			h.metrics.webhook(d.source.Name, a.Outcome)
		}
	}
	if isBatch {
		serve.JSON(w, http.StatusAccepted, answers)
		return
	}
	serve.JSON(w, http.StatusAccepted, answers[0])
}

// mapAll maps events. The problem is the first of a rule that could not be
// evaluated.
func (h *Handler) mapAll(ctx context.Context, d *delivery, events []event) (answers []deliveryAnswer, drafts []*draft, failed *push.Problem) {
	ctx, cancel := context.WithTimeout(ctx, maxMapping)
	defer cancel()
	answers = make([]deliveryAnswer, len(events))
	made := 0
	for i, e := range events {
		mapped, outcome, p := h.evaluate(ctx, d, e)
		answers[i] = deliveryAnswer{Delivery: e.id, Outcome: outcome, Messages: []accepted{}}
		for _, m := range mapped {
			answers[i].Messages = append(answers[i].Messages, accepted{m.ID})
			made += len(m.Data)
		}
		drafts = append(drafts, mapped...)
		if len(drafts) > maxMade || made > maxMadeAll {
			return answers, nil, push.NewProblem(push.CodeRuleFailed,
				"the rules make more than %d messages or %d bytes of one request; nothing of it was kept", maxMade, maxMadeAll)
		}
		if p != nil && failed == nil {
			failed = p
		}
	}
	return answers, drafts, failed
}

// A delivery is what the events of one request have in common.
type delivery struct {
	source *source.Source
	in     rule.Input
	trace  string
}

// evaluate returns the messages that the rules make of one event. A problem is
// the first rule's that could not be evaluated; those of other rules are made
// all the same.
func (h *Handler) evaluate(ctx context.Context, d *delivery, e event) (drafts []*draft, outcome string, p *push.Problem) {
	in := d.in
	in.Body = e.body
	outcome = outcomeNoRule
	for _, r := range d.source.Rules {
		m, err := r.Eval(ctx, &in)
		if err != nil {
			failed := h.ruleFailed(d.source.Name, e.id, r.Spec().Name, err)
			if p == nil {
				p = failed
			}
			continue
		}
		if m == nil {
			continue
		}
		if m.To.IsZero() {
			if outcome == outcomeNoRule {
				outcome = outcomeNobody
			}
			continue
		}
		made, problem := draftOf(d, e, r.Spec().Name, m)
		if problem != nil {
			h.metrics.message(problem.Code)
			if p == nil {
				p = problem
			}
			continue
		}
		outcome = outcomeAccepted
		drafts = append(drafts, made)
	}
	return drafts, outcome, p
}

// ruleFailed counts and logs what is wrong with a rule under one delivery, and
// returns what its sender is told. The reason may quote the delivery, and does
// not go to the log.
func (h *Handler) ruleFailed(name, id, ruleName string, err error) *push.Problem {
	wrong := &rule.Error{Kind: rule.KindResult, Reason: "it could not be evaluated"}
	errors.As(err, &wrong)
	h.metrics.webhook(name, "rule_failed")
	h.metrics.ruleErrors.WithLabelValues(name, ruleName, string(wrong.Kind)).Inc()
	h.log.Warn("a rule cannot be evaluated for a delivery", "source", name, "delivery", id, "rule", ruleName,
		"field", wrong.Field, "kind", string(wrong.Kind))
	return push.NewProblem(push.CodeRuleFailed, "rule %q, %s: %s", ruleName, wrong.Field, wrong.Reason)
}

// draftOf makes the message that a rule has made of an event. Its id is
// SOURCE/DELIVERY/RULE, so that a repeated delivery is a repeated message.
func draftOf(d *delivery, e event, ruleName string, m *rule.Message) (*draft, *push.Problem) {
	made := &draft{ttl: m.TTL}
	if made.ttl == 0 {
		made.ttl = push.DefaultTTL
	}
	to, err := recipients(m.To)
	if err != nil {
		return nil, invalid(err)
	}
	data, p := compactData(m.Data)
	if p != nil {
		return nil, p
	}
	made.Message = push.Message{
		ID: push.MessageID(d.source.Name + "/" + e.id + "/" + ruleName),
		To: to, Event: m.Event, Data: data, CollapseKey: m.CollapseKey, Trace: d.trace,
	}
	made.created(d.in.ReceivedAt)
	made.Fingerprint = fingerprint(made)
	return made, nil
}

// acceptFirst accepts drafts as accept does, but where an id is there already
// and its message reads otherwise, that one stands and is sent on again: a rule
// may have changed since the delivery came first, or the sender wrote the time
// of its second try into the body.
func (h *Handler) acceptFirst(ctx context.Context, drafts []*draft) []outcome {
	outcomes := h.accept(ctx, drafts)
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
	h.kept.note(h.log, err)
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
	if _, ok := h.source(w, r); !ok {
		return
	}
	a, ok := signature.Handshake(r.Header, 0)
	if !ok {
		h.refuse(w, r, push.NewProblem(push.CodeBadRequest, "OPTIONS is for the handshake of CloudEvents, with WebHook-Request-Origin"))
		return
	}
	answer(w, a)
}

// source returns the source that r names; ok is false if there is none, and r is
// answered.
func (h *Handler) source(w http.ResponseWriter, r *http.Request) (*source.Source, bool) {
	if h.cfg.Sources != nil {
		src, ok := h.cfg.Sources.Set(r.Context()).Source(r.PathValue("source"))
		if ok && h.cfg.Keys.Has(src.Name) {
			// Whoever has the key could take the ids of its messages before they come.
			h.refuseWebhook(w, r, src, push.NewProblem(push.CodeConflict, "the source has the name of an API key, and both begin message ids: rename it"))
			return nil, false
		}
		if ok {
			return src, true
		}
	}
	h.metrics.webhook("", "unknown_source")
	h.refuse(w, r, push.NewProblem(push.CodeNotFound, "there is no source of this name"))
	return nil, false
}

// refuseWebhook answers with a problem and counts it under its source.
func (h *Handler) refuseWebhook(w http.ResponseWriter, r *http.Request, src *source.Source, p *push.Problem) {
	h.metrics.webhook(src.Name, string(p.Code))
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
// hold secrets or signatures, names in lower case.
func visibleHeaders(h http.Header, scheme signature.Scheme) map[string]string {
	visible := make(map[string]string, len(h))
	for name, values := range h {
		switch {
		case strings.EqualFold(name, scheme.Header), name == "Authorization", name == "Proxy-Authorization", name == "Cookie", name == "X-Api-Key":
			continue
		}
		visible[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	return visible
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
