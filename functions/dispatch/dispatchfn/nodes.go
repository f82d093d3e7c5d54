package dispatchfn

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// listNodes answers which nodes hold a lease, and how each says it is.
func (h *Handler) listNodes(w http.ResponseWriter, r *http.Request) {
	if !question(w, r, &push.NodesRequest{}, func() error { return nil }) {
		return
	}
	held, err := h.reg.Held(r.Context())
	if err != nil {
		h.unasked(w, r, err)
		return
	}
	said := make(map[push.NodeID]push.NodeStatus)
	// Who does not answer is told from the others by Answered.
	_, err = askAll(r.Context(), h, h.nodes.Status, func(node push.NodeID, s push.NodeStatus) { said[node] = s })
	if err != nil {
		h.unasked(w, r, err)
		return
	}
	answer := push.NodesAnswer{Nodes: make([]push.NodeInfo, len(held))}
	for i, l := range held {
		answer.Nodes[i] = push.NodeInfo{
			Node: l.Node, Address: l.Node.Addr(), Draining: l.Draining, LeaseLeft: l.Left.Round(time.Millisecond).String(),
		}
		if s, ok := said[l.Node]; ok {
			answer.Nodes[i].Answered, answer.Nodes[i].NodeStatus = true, &s
		}
	}
	slices.SortFunc(answer.Nodes, func(a, b push.NodeInfo) int { return cmp.Compare(a.Node, b.Node) })
	serve.JSON(w, http.StatusOK, answer)
}
