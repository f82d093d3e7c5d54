package node

import (
	"net/http"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// status answers how the node is.
func (n *Node) status(w http.ResponseWriter, r *http.Request) {
	if p := serve.Decode(w, r, 4<<10, &push.StatusRequest{}); p != nil {
		serve.Problem(w, r, p)
		return
	}
	s := push.NodeStatus{
		Channels: n.hub.Len(), StartedAt: n.started.UTC().Truncate(time.Millisecond), Version: n.cfg.Build,
	}
	n.mu.Lock()
	s.Connections, s.Users = len(n.clients), len(n.users)
	n.mu.Unlock()
	serve.JSON(w, http.StatusOK, push.StatusAnswer{Node: n.cfg.ID, NodeStatus: s})
}
