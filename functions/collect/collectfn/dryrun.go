package collectfn

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// How a delivery fares under the candidate rules, against those in force.
const (
	resultSame    = "same"
	resultChanged = "changed"
	resultAdded   = "added"   // now nothing is sent, then something would be
	resultRemoved = "removed" // now something is sent, then nothing would be
)

// Bounds of what is shown of one delivery.
const (
	shownMessages   = 10
	shownRecipients = 20
	shownData       = 4 << 10 // bytes
)

// A dryRun is what the rules in force and the candidates make of one delivery.
type dryRun struct {
	Delivery   string    `json:"delivery"`
	ReceivedAt time.Time `json:"received_at"`
	Was        string    `json:"was"` // its outcome as it is kept
	Result     string    `json:"result"`
	Now        *wouldBe  `json:"now,omitempty"`
	Candidate  *wouldBe  `json:"candidate,omitempty"`
	Reason     string    `json:"reason,omitempty"` // why it was skipped
}

// A wouldBe is what one set of rules makes of a delivery. Its messages are those
// that the other set does not make, or makes otherwise.
type wouldBe struct {
	Outcome  string         `json:"outcome"`
	Messages []shownMessage `json:"messages,omitempty"`
	Further  int            `json:"further_messages,omitempty"` // how many more there are
	Failed   []ruleResult   `json:"failed,omitempty"`
}

// A shownMessage is a message that would be sent, as far as it fits into a line.
type shownMessage struct {
	ID          push.MessageID  `json:"id"`
	To          push.Recipients `json:"to"`
	Recipients  int             `json:"recipients"` // users and topics, those too that to leaves out
	Event       string          `json:"event,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
	DataSize    int             `json:"data_size,omitempty"` // of data that is left out
	TTL         string          `json:"ttl"`
	CollapseKey string          `json:"collapse_key,omitempty"`
}

// dryRun tells what candidate rules would make of kept deliveries, and sends
// nothing: POST /v1/sources/{source}/dry-run.
func (h *Handler) dryRun(w http.ResponseWriter, r *http.Request) {
	src, key, ok := h.sourceFor(w, r)
	if !ok {
		return
	}
	var order struct {
		deliveryRange
		Rules json.RawMessage `json:"rules"`
	}
	p := decodeOrder(w, r, &order)
	var q store.DeliveriesQuery
	if p == nil {
		q, p = order.query(src.Name, h.now())
	}
	var candidates []*rule.Rule
	if p == nil {
		candidates, p = h.candidates(order.Rules)
	}
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	h.metrics.orders.WithLabelValues("dry_run").Inc()
	h.log.Info("rules are tried", "source", src.Name, "key", key, "rules", len(candidates), "from", q.After.At, "to", q.Before.At)
	h.walk(w, r, &order.deliveryRange, q, func(ctx context.Context, l *long, page []store.Delivery) (results []string, p *push.Problem) {
		for i := range page {
			if i > 0 && l.over(ctx, time.Now()) {
				break
			}
			line := compareRules(ctx, src, candidates, &page[i])
			results = append(results, line.Result)
			if !l.line(line) {
				break
			}
		}
		return results, nil
	})
}

// candidates reads the rules that are to be tried: a list as in the file of
// sources, as JSON, or as YAML in a string.
func (h *Handler) candidates(raw json.RawMessage) ([]*rule.Rule, *push.Problem) {
	if len(raw) == 0 {
		return nil, push.NewProblem(push.CodeInvalidValue, "rules are missing: give those to be tried, as they would stand in the source")
	}
	if h.cfg.Stored == nil {
		return nil, push.NewProblem(push.CodeUnavailable, "rules cannot be tried here")
	}
	text := []byte(raw)
	var inYAML string
	if json.Unmarshal(raw, &inYAML) == nil {
		text = []byte(inYAML)
	}
	rules, err := h.cfg.Stored.CheckRules(text)
	if err != nil {
		return nil, push.NewProblem(push.CodeInvalidValue, "%s", faultsText(err))
	}
	return rules, nil
}

// compareRules maps a kept delivery by the rules in force and by candidates.
func compareRules(ctx context.Context, src *source.Source, candidates []*rule.Rule, kept *store.Delivery) dryRun {
	line := dryRun{Delivery: kept.ID, ReceivedAt: kept.ReceivedAt.UTC(), Was: kept.Outcome}
	d, e, p := revive(src, kept)
	if p != nil {
		line.Result, line.Reason = resultSkipped, p.Detail
		return line
	}
	// A client that leaves must not make rules fail: the lines are for nobody then,
	// but they are counted.
	ctx = context.WithoutCancel(ctx)
	try := func(rules []*rule.Rule) mapped {
		ctx, cancel := context.WithTimeout(ctx, maxMapping)
		defer cancel()
		return evaluate(ctx, d, rules, e)
	}
	before, after := try(src.Rules), try(candidates)
	now, then := before.less(&after), after.less(&before)
	line.Now, line.Candidate = &now, &then
	switch {
	case len(now.Messages) == 0 && len(then.Messages) == 0 && slices.Equal(now.Failed, then.Failed):
		line.Result = resultSame
	case len(before.drafts) == 0 && len(after.drafts) > 0:
		line.Result = resultAdded
	case len(before.drafts) > 0 && len(after.drafts) == 0:
		line.Result = resultRemoved
	default:
		line.Result = resultChanged
	}
	return line
}

// less returns what m is, and of its messages those that other does not make
// alike.
func (m *mapped) less(other *mapped) wouldBe {
	made := make(map[push.MessageID]string, len(other.drafts))
	for _, d := range other.drafts {
		made[d.ID] = d.Fingerprint
	}
	would := wouldBe{Outcome: m.outcome, Failed: m.failures()}
	for _, d := range m.drafts {
		if print, ok := made[d.ID]; ok && print == d.Fingerprint {
			continue
		}
		if len(would.Messages) == shownMessages {
			would.Further++
			continue
		}
		would.Messages = append(would.Messages, show(d))
	}
	return would
}

func show(d *draft) shownMessage {
	m := shownMessage{ID: d.ID, To: d.To, Recipients: len(d.To.Users) + len(d.To.Channels), Event: d.Event,
		Data: bytes.Clone(d.Data), TTL: d.ttl.String(), CollapseKey: d.CollapseKey}
	m.To.Users = m.To.Users[:min(len(m.To.Users), shownRecipients)]
	m.To.Channels = m.To.Channels[:min(len(m.To.Channels), shownRecipients)]
	if len(m.Data) > shownData {
		m.Data, m.DataSize = nil, len(m.Data)
	}
	return m
}
