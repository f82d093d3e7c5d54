package collectfn

import (
	"context"
	"errors"
	"sync"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// An outcome is what became of one draft: the id, or a problem.
type outcome struct {
	id      push.MessageID
	repeat  bool
	first   int // the place of the first draft of this id
	problem *push.Problem
	// nothingKept is set on every outcome if the store took none of them.
	nothingKept bool
}

// accept stores drafts, hands off what is new, what repeats and is due, and puts
// into the outbox what is to wait, for its time or behind others, or was not
// confirmed. Outcomes come in the order of drafts; one without problem is a
// promise to deliver.
func (h *Handler) accept(ctx context.Context, drafts []*draft) []outcome {
	return h.acceptBeside(ctx, drafts, nil)
}

// acceptBeside is accept with something to do beside the hand-off: beside, if it
// is not nil, is called once the messages are stored, or if there are none, and
// waited for. It is not called if they could not be stored.
func (h *Handler) acceptBeside(ctx context.Context, drafts []*draft, beside func(context.Context)) []outcome {
	outcomes := make([]outcome, len(drafts))
	if len(drafts) == 0 {
		if beside != nil {
			beside(context.WithoutCancel(ctx))
		}
		return outcomes
	}
	records := make([]store.Record, len(drafts))
	for i, d := range drafts {
		records[i] = d.Record
	}
	// A sender that hangs up must not come between the message and its hand-off;
	// store and hand-off have deadlines of their own.
	ctx = context.WithoutCancel(ctx)
	glance := h.lookForBacklog(drafts) // beside the insertion: it costs no time of its own
	insertions, err := h.store.InsertMessages(ctx, records)
	if err == nil && len(insertions) != len(records) {
		err = errors.New("the store answered for another number of messages")
	}
	h.kept.Note(h.log, err)
	if err != nil {
		for i := range outcomes {
			h.metrics.message(push.CodeUnavailable)
			outcomes[i] = outcome{nothingKept: true,
				problem: push.NewProblem(push.CodeUnavailable, "the store is away; nothing was kept, send it again")}
		}
		return outcomes
	}
	list := h.compare(drafts, insertions, outcomes)
	var both sync.WaitGroup
	if beside != nil {
		both.Go(func() { beside(ctx) })
	}
	var untold error
	callbacks := h.callbacksOf(drafts)
	if len(callbacks) > 0 {
		both.Go(func() { untold = h.store.PutCallbacks(ctx, callbacks) })
	}
	h.forwardBehind(ctx, list, outcomes, glance)
	both.Wait()
	if len(callbacks) > 0 {
		h.callbacks.Note(h.log, untold)
	}
	if untold != nil {
		withoutCallbacks(drafts, outcomes)
	}
	for i := range outcomes {
		if outcomes[i].problem == nil {
			outcomes[i].problem = outcomes[outcomes[i].first].problem
		}
	}
	return outcomes
}

// A pending is a stored message that is to be handed off or to wait.
type pending struct {
	*draft
	place int // of its outcome
}

// compare fills in the outcomes as the store decided and returns what is to be
// sent on, each message once.
func (h *Handler) compare(drafts []*draft, insertions []store.Insertion, outcomes []outcome) []pending {
	var list []pending
	first := make(map[push.MessageID]int, len(drafts))
	for i, d := range drafts {
		in := insertions[i]
		outcomes[i] = outcome{id: d.ID, repeat: in.Repeat, first: i}
		if in.Repeat && in.Fingerprint != d.Fingerprint {
			h.metrics.message(push.CodeIDReused)
			outcomes[i].problem = push.NewProblem(push.CodeIDReused, "the id %q belongs to a message that reads otherwise", d.ID)
			continue
		}
		if in.Repeat {
			h.metrics.messages.WithLabelValues("repeated").Inc()
			d.created(in.CreatedAt.UTC())
		} else {
			h.metrics.messages.WithLabelValues("accepted").Inc()
		}
		if at, ok := first[d.ID]; ok {
			outcomes[i].first = at
			continue
		}
		first[d.ID] = i
		list = append(list, pending{d, i})
	}
	return list
}
