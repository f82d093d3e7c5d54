package collectfn

import (
	"context"
	"net/http"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// listNodes answers which push nodes are alive: GET /v1/nodes.
func (h *Handler) listNodes(w http.ResponseWriter, r *http.Request) {
	if _, ok := h.holder(w, r); !ok {
		return
	}
	if _, p := queryOf(r); p != nil {
		h.refuse(w, r, p)
		return
	}
	var answer push.NodesAnswer
	if !h.ask(w, r, func(ctx context.Context) (err error) {
		answer, err = h.cfg.Questions.Nodes(ctx)
		return err
	}) {
		return
	}
	h.metrics.orders.WithLabelValues("nodes").Inc()
	serve.JSON(w, http.StatusOK, answer)
}
