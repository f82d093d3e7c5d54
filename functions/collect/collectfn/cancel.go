package collectfn

import (
	"context"
	"net/http"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
)

// A changed is the answer to an order about one message.
type changed struct {
	ID    push.MessageID `json:"id"`
	State state          `json:"state"`
}

// cancel takes a scheduled message back: DELETE /v1/messages/{id...}. It answers
// 409 once the message has gone out, or may have.
func (h *Handler) cancel(w http.ResponseWriter, r *http.Request) {
	sender, ok := h.holder(w, r)
	if !ok {
		return
	}
	_, p := queryOf(r)
	var m store.Record
	if p == nil {
		m, p = h.find(r.Context(), sender, push.MessageID(r.PathValue("id")))
	}
	if p == nil {
		p = h.takeBack(r.Context(), &m.Message)
	}
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	h.metrics.orders.WithLabelValues("cancel").Inc()
	serve.JSON(w, http.StatusOK, changed{m.ID, stateCancelled})
}

// takeBack cancels m, and returns a problem unless it will never be delivered.
//
// What decides is one compare-and-set in the outbox, where the sweep's claim is
// another: whichever comes first wins. The inbox is looked at afterwards for
// messages that went out earlier and whose entry a repeat made anew.
func (h *Handler) takeBack(ctx context.Context, m *push.Message) *push.Problem {
	gone := push.NewProblem(push.CodeConflict, "the message has gone out")
	away := push.NewProblem(push.CodeUnavailable, "the store is away")
	if m.DeliverAt.IsZero() {
		return gone
	}
	placed, err := h.placed(ctx, m)
	if err != nil {
		return away
	}
	if placed {
		return gone
	}
	now := h.now()
	if m.DeliverAt.After(now) {
		// It may have died between its store and its outbox.
		if err := h.store.PutOutbox(ctx, []store.OutboxEntry{{Message: m.ID, DueAt: m.DeliverAt}}); err != nil {
			return away
		}
	}
	cancelled, err := h.store.CancelOutbox(ctx, m.ID, now, m.ExpiresAt.Add(push.RepeatWindow))
	if err != nil {
		return away
	}
	if cancelled {
		if placed, err = h.placed(ctx, m); err != nil {
			return away
		}
	}
	if !cancelled || placed {
		return gone
	}
	return nil
}

// placed reports whether m has a place in any channel.
func (h *Handler) placed(ctx context.Context, m *push.Message) (bool, error) {
	places, err := h.store.PlacedAt(ctx, m.ID, m.To.List())
	return len(places) > 0, err
}
