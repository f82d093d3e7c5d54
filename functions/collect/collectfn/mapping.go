package collectfn

import (
	"context"
	"errors"
	"time"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
)

// Limits of what one request may make.
const (
	maxMapping = 2 * time.Second // for all rules on all its events
	maxMade    = MaxBatch        // messages
	maxMadeAll = 8 << 20         // bytes of data in all of them
)

// The outcomes of a delivery.
const (
	outcomeAccepted  = "accepted"
	outcomeNoRule    = "no_rule_matched"
	outcomeNobody    = "nobody"    // a rule matched, and addresses nobody
	outcomeParked    = "parked"    // a rule could not be evaluated: it waits for a replay
	outcomeRefused   = "refused"   // it was not verified, or could not be read
	outcomeChallenge = "challenge" // it only asked whether we are here
)

// What one rule came to under one delivery.
const (
	resultMade    = "made"     // a message
	resultNoMatch = "no_match" // its condition is false
	resultNobody  = "nobody"   // it matched, and addresses nobody
	resultFailed  = "failed"
)

// A ruleResult is what one rule made of one delivery, or why not.
type ruleResult struct {
	Rule       string         `json:"rule,omitempty"` // empty: all of them
	Result     string         `json:"result"`
	Message    push.MessageID `json:"message,omitempty"`
	Recipients int            `json:"recipients,omitempty"` // users and topics
	All        bool           `json:"all,omitempty"`        // and everybody
	ruleFailure
}

// A ruleFailure is why a rule could not be evaluated. The reason may quote the
// delivery.
type ruleFailure struct {
	Field  string `json:"field,omitempty"`
	Kind   string `json:"kind,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// A delivery is what the events of one request have in common.
type delivery struct {
	source *source.Source
	in     rule.Input
	trace  string
	at     time.Time // when its messages are made; zero: when it was received
	suffix string    // of their ids: that of a replay
}

// A mapped is what rules made of one event.
type mapped struct {
	event   event
	outcome string
	results []ruleResult
	drafts  []*draft      // one for each result that is a message, in their order
	problem *push.Problem // the first of a rule that failed
}

// failures returns the results that are failures.
func (m *mapped) failures() []ruleResult { return failuresOf(m.results) }

func failuresOf(results []ruleResult) (list []ruleResult) {
	for _, r := range results {
		if r.Result == resultFailed {
			list = append(list, r)
		}
	}
	return list
}

// fail notes that a rule could not be evaluated.
func (m *mapped) fail(ruleName string, f ruleFailure, p *push.Problem) {
	m.results = append(m.results, ruleResult{Rule: ruleName, Result: resultFailed, ruleFailure: f})
	m.outcome = outcomeParked
	if m.problem == nil {
		m.problem = p
	}
}

// mapAll maps the events of one request. If they make more than one request may,
// no event makes anything, and each has failed. A sender that hangs up is no
// reason for a rule to fail.
func (h *Handler) mapAll(ctx context.Context, d *delivery, events []event) []mapped {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxMapping)
	defer cancel()
	list := make([]mapped, len(events))
	drafts, size := 0, 0
	for i, e := range events {
		list[i] = evaluate(ctx, d, d.source.Rules, e)
		h.countFailures(d.source.Name, &list[i])
		drafts += len(list[i].drafts)
		for _, one := range list[i].drafts {
			size += len(one.Data)
		}
		if drafts > maxMade || size > maxMadeAll {
			p := push.NewProblem(push.CodeRuleFailed, "the rules make more than %d messages or %d bytes of one request", maxMade, maxMadeAll)
			for j, e := range events {
				list[j] = mapped{event: e}
				list[j].fail("", ruleFailure{Kind: string(rule.KindCost), Reason: p.Detail}, p)
			}
			return list
		}
	}
	return list
}

// evaluate returns what rules make of one event. Where one cannot be evaluated,
// those of the others are made all the same.
func evaluate(ctx context.Context, d *delivery, rules []*rule.Rule, e event) mapped {
	in := d.in
	in.Body = e.body
	m := mapped{event: e, outcome: outcomeNoRule}
	for _, r := range rules {
		name := r.Spec().Name
		one, err := r.Eval(ctx, &in)
		switch {
		case err != nil:
			wrong := &rule.Error{Kind: rule.KindResult, Reason: "it could not be evaluated"}
			errors.As(err, &wrong)
			m.fail(name, ruleFailure{wrong.Field, string(wrong.Kind), wrong.Reason},
				push.NewProblem(push.CodeRuleFailed, "rule %q, %s: %s", name, wrong.Field, wrong.Reason))
		case one == nil:
			m.results = append(m.results, ruleResult{Rule: name, Result: resultNoMatch})
		case one.To.IsZero():
			m.results = append(m.results, ruleResult{Rule: name, Result: resultNobody})
			if m.outcome == outcomeNoRule {
				m.outcome = outcomeNobody
			}
		default:
			m.make(d, name, one)
		}
	}
	return m
}

// make adds the message that a rule has made.
func (m *mapped) make(d *delivery, ruleName string, one *rule.Message) {
	made, p := draftOf(d, m.event, ruleName, one)
	if p != nil {
		m.fail(ruleName, ruleFailure{Kind: string(rule.KindResult), Reason: p.Detail}, p)
		return
	}
	if m.outcome != outcomeParked {
		m.outcome = outcomeAccepted
	}
	m.drafts = append(m.drafts, made)
	m.results = append(m.results, ruleResult{Rule: ruleName, Result: resultMade, Message: made.ID,
		Recipients: len(made.To.Users) + len(made.To.Channels), All: made.To.All})
}

// countFailures counts and logs what is wrong with rules under one delivery. The
// reason may quote the delivery, and does not go to the log.
func (h *Handler) countFailures(name string, m *mapped) {
	for _, f := range m.failures() {
		ofSource, ofRule := h.metrics.sources.rule(name, f.Rule)
		h.metrics.ruleErrors.WithLabelValues(ofSource, ofRule, f.Kind).Inc()
		h.log.Warn("a rule cannot be evaluated for a delivery", "source", name, "delivery", m.event.id, "rule", f.Rule,
			"field", f.Field, "kind", f.Kind)
	}
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
		ID: push.MessageID(d.source.Name + "/" + e.id + "/" + ruleName + d.suffix),
		To: to, Event: m.Event, Data: data, CollapseKey: m.CollapseKey, Trace: d.trace,
	}
	if e.halves {
		if p := made.checkHalves(); p != nil {
			return nil, p
		}
	}
	at := d.at
	if at.IsZero() {
		at = d.in.ReceivedAt
	}
	made.created(at)
	made.Fingerprint = fingerprint(made)
	if d.source.Callback != nil {
		made.callback = d.source.Name
	}
	return made, nil
}
