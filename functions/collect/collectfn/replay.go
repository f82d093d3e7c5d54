package collectfn

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
	"pushcluster/shared/telemetry"
)

// maxResults bounds what is kept of what rules made of one delivery over all its
// replays.
const maxResults = 300

// A replayed is what a replay made of one delivery.
type replayed struct {
	Delivery string            `json:"delivery"`
	Was      string            `json:"was"`     // its outcome before
	Outcome  string            `json:"outcome"` // of this replay; "skipped": it was not replayed
	Messages []replayedMessage `json:"messages"`
	Failed   []ruleResult      `json:"failed,omitempty"`
	Reason   string            `json:"reason,omitempty"` // why it was skipped
}

// A replayedMessage is a message that a replay has made. A repeat was there
// before, and nothing new is sent.
type replayedMessage struct {
	ID     push.MessageID `json:"id"`
	Repeat bool           `json:"repeat,omitempty"`
}

const resultSkipped = "skipped"

// replayDelivery has one delivery go through the rules of now: POST
// /v1/sources/{source}/deliveries/{id...}/replay.
func (h *Handler) replayDelivery(w http.ResponseWriter, r *http.Request) {
	id, ok := strings.CutSuffix(r.PathValue("rest"), "/replay")
	if !ok || id == "" {
		h.refuse(w, r, push.NewProblem(push.CodeNotFound, "nothing lives at this path; a replay is POST /v1/sources/{source}/deliveries/{id}/replay"))
		return
	}
	src, key, ok := h.sourceFor(w, r)
	if !ok {
		return
	}
	var order struct {
		Again bool `json:"again"`
	}
	if p := decodeOrder(w, r, &order); p != nil {
		h.refuse(w, r, p)
		return
	}
	kept, ok := h.load(w, r, src.Name, id)
	if !ok {
		return
	}
	if _, _, p := revive(src, &kept); p != nil {
		h.refuse(w, r, p)
		return
	}
	again := &replaying{h: h, src: src, again: order.Again, trace: telemetry.Trace(r.Header), ends: time.Now().Add(longTime)}
	lines, p := again.run(r.Context(), []store.Delivery{kept})
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	h.metrics.orders.WithLabelValues("replay_delivery").Inc()
	h.log.Info("delivery replayed", "source", src.Name, "delivery", id, "key", key, "again", order.Again, "outcome", lines[0].Outcome)
	serve.JSON(w, http.StatusAccepted, lines[0])
}

// replayRange replays many deliveries, the oldest first: POST
// /v1/sources/{source}/replay.
func (h *Handler) replayRange(w http.ResponseWriter, r *http.Request) {
	src, key, ok := h.sourceFor(w, r)
	if !ok {
		return
	}
	var order struct {
		deliveryRange
		Again bool `json:"again"`
	}
	p := decodeOrder(w, r, &order)
	var q store.DeliveriesQuery
	if p == nil {
		q, p = order.query(src.Name, h.now())
	}
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	h.metrics.orders.WithLabelValues("replay_range").Inc()
	h.log.Info("deliveries are replayed", "source", src.Name, "key", key, "again", order.Again, "from", q.After.At, "to", q.Before.At, "outcome", q.Outcome)
	again := &replaying{h: h, src: src, again: order.Again, trace: telemetry.Trace(r.Header), ends: time.Now().Add(longTime)}
	h.walk(w, r, &order.deliveryRange, q, func(ctx context.Context, l *long, page []store.Delivery) (results []string, p *push.Problem) {
		lines, p := again.run(ctx, page)
		for _, line := range lines {
			l.line(line) // what was sent has been sent, whoever hears of it
			results = append(results, line.Outcome)
		}
		return results, p
	})
}

// A replaying is an order to replay deliveries of one source.
type replaying struct {
	h     *Handler
	src   *source.Source
	again bool // what was sent before is sent once more
	trace string
	ends  time.Time
}

// A revived is one delivery that is replayed.
type revived struct {
	kept *store.Delivery
	line replayed
	mapped
	sent []bool // for each draft: whether it is given to accept
}

// run replays deliveries in their order and returns a line for each it did: fewer
// than there are if its time is over. If their messages cannot be kept or handed
// on it returns the problem and no lines, and nothing is lost: another run does
// the same.
func (run *replaying) run(ctx context.Context, page []store.Delivery) ([]replayed, *push.Problem) {
	h := run.h
	var list []*revived
	var drafts []*draft
	size := 0
	for i := range page {
		// The first is done in any case, so that whoever asks again gets on.
		if i > 0 && (!time.Now().Before(run.ends) || len(drafts) >= maxMade || size > maxMadeAll) {
			break
		}
		one, p := run.revive(ctx, &page[i])
		if p != nil {
			return nil, p
		}
		list = append(list, one)
		for j, d := range one.drafts {
			if one.sent[j] {
				drafts = append(drafts, d)
				size += len(d.Data)
			}
		}
	}
	outcomes := h.acceptFirst(ctx, drafts, nil)
	for _, o := range outcomes {
		if o.problem != nil {
			return nil, o.problem
		}
	}
	sent := 0
	for _, o := range outcomes {
		if !o.repeat {
			sent++
		}
	}
	h.metrics.sent(run.src.Name, sent)
	lines := make([]replayed, len(list))
	var judged []store.Delivery
	for i, one := range list {
		outcomes = one.tell(outcomes)
		if one.line.Outcome != resultSkipped {
			judged = append(judged, one.judge(h.now()))
		}
		h.metrics.replays.WithLabelValues(h.metrics.sources.label(run.src.Name), one.line.Outcome).Inc()
		lines[i] = one.line
	}
	err := h.store.JudgeDeliveries(context.WithoutCancel(ctx), judged)
	h.deliveries.Note(h.log, err)
	if err != nil {
		return nil, push.NewProblem(push.CodeUnavailable, "the messages are accepted, but the store is away and what became of the deliveries could not be kept; replay them again")
	}
	return lines, nil
}

// revive maps one delivery by the rules of now.
func (run *replaying) revive(ctx context.Context, kept *store.Delivery) (*revived, *push.Problem) {
	one := &revived{kept: kept, line: replayed{Delivery: kept.ID, Was: kept.Outcome, Messages: []replayedMessage{}}}
	d, e, p := revive(run.src, kept)
	if p != nil {
		one.line.Outcome, one.line.Reason = resultSkipped, p.Detail
		return one, nil
	}
	d.at, d.trace = run.h.now(), run.trace
	if run.again {
		n, err := run.h.store.CountReplay(context.WithoutCancel(ctx), run.src.Name, kept.ID)
		if err != nil {
			run.h.deliveries.Note(run.h.log, err)
			return nil, push.NewProblem(push.CodeUnavailable, "the store is away, or the delivery is no longer kept")
		}
		d.suffix = fmt.Sprintf("/r%d", n)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxMapping)
	defer cancel()
	one.mapped = evaluate(ctx, d, run.src.Rules, e)
	run.h.countFailures(run.src.Name, &one.mapped)
	before := detailOf(kept)
	for _, made := range one.drafts {
		// A message's id is forgotten some time after the message.
		old := d.at.Sub(kept.ReceivedAt) >= push.RepeatWindow &&
			slices.ContainsFunc(before.Rules, func(r ruleResult) bool { return r.Message == made.ID })
		one.sent = append(one.sent, !old)
	}
	return one, nil
}

// tell fills in the line by the outcomes of what was sent of it, which come first
// in outcomes, and returns the others.
func (one *revived) tell(outcomes []outcome) []outcome {
	if one.line.Outcome == resultSkipped {
		return outcomes
	}
	one.line.Outcome, one.line.Failed = one.outcome, one.failures()
	for i, made := range one.drafts {
		m := replayedMessage{ID: made.ID, Repeat: true}
		if one.sent[i] {
			m.Repeat, outcomes = outcomes[0].repeat, outcomes[1:]
		}
		one.line.Messages = append(one.line.Messages, m)
	}
	return outcomes
}

// judge returns what is kept of the delivery from now on. A delivery that was
// accepted stays accepted: what was sent was sent, whatever the rules say now.
func (one *revived) judge(now time.Time) store.Delivery {
	judged, detail := *one.kept, detailOf(one.kept)
	detail.ReplayedAt = now
	if !judged.Settled || one.outcome == outcomeAccepted {
		var rules []ruleResult
		for _, r := range detail.Rules {
			if r.Message != "" && !slices.ContainsFunc(one.results, func(n ruleResult) bool { return n.Message == r.Message }) {
				rules = append(rules, r)
			}
		}
		rules = append(rules, one.results...)
		detail.Rules = rules[max(0, len(rules)-maxResults):]
		judged.Outcome, judged.Settled = one.outcome, one.outcome == outcomeAccepted
	}
	judged.Detail = detail.encode()
	return judged
}
