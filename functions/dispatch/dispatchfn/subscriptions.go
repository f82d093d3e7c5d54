package dispatchfn

import (
	"context"
	"net/http"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// subscribe subscribes a user's connections to a topic, on all nodes.
func (h *Handler) subscribe(w http.ResponseWriter, r *http.Request) {
	var req push.SubscribeRequest
	if !question(w, r, &req, func() error { return req.Check() }) {
		return
	}
	h.change(w, r, func(ctx context.Context, node push.NodeID) (push.SubscriptionAnswer, error) {
		return h.nodes.Subscribe(ctx, node, req)
	})
}

// unsubscribe ends the subscriptions of a user's connections to a topic, on all
// nodes.
func (h *Handler) unsubscribe(w http.ResponseWriter, r *http.Request) {
	var req push.UnsubscribeRequest
	if !question(w, r, &req, func() error { return req.Check() }) {
		return
	}
	h.change(w, r, func(ctx context.Context, node push.NodeID) (push.SubscriptionAnswer, error) {
		return h.nodes.Unsubscribe(ctx, node, req)
	})
}

// change answers how many connections an order to all nodes changed.
func (h *Handler) change(w http.ResponseWriter, r *http.Request, order func(context.Context, push.NodeID) (push.SubscriptionAnswer, error)) {
	var answer push.SubscriptionAnswer
	unanswered, err := askAll(r.Context(), h, order, func(_ push.NodeID, a push.SubscriptionAnswer) {
		answer.Connections += a.Connections
		answer.Refused += a.Refused
	})
	if err != nil {
		h.unasked(w, r, err)
		return
	}
	answer.Unanswered = unanswered
	serve.JSON(w, http.StatusOK, answer)
}
