package node

import (
	"net/http"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

// maxDeliver bounds a deliver request's body: 10,000 entries of one large
// message, or many small ones.
const maxDeliver = 16 << 20

// Internal returns the node API, for the internal port. Every request must be
// signed so that callers accepts it.
func (n *Node) Internal(callers *signature.Verifier) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/node/deliver", n.deliver)
	mux.HandleFunc("POST /v1/node/disconnect", n.disconnect)
	return signature.Require(callers, maxDeliver, mux)
}

// deliver gives entries to the connections here. It does not wait for them.
func (n *Node) deliver(w http.ResponseWriter, r *http.Request) {
	var req push.DeliverRequest
	if p := serve.Decode(w, r, maxDeliver, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	if req.Node != n.cfg.ID {
		serve.Problem(w, r, push.NewProblem(push.CodeOtherNode, "this is node %s", n.cfg.ID))
		return
	}
	for _, e := range req.Entries {
		if e.Message < 0 || e.Message >= len(req.Messages) || e.Offset == 0 || len(req.Messages[e.Message].Data) == 0 {
			serve.Problem(w, r, push.NewProblem(push.CodeBadRequest, "an entry names no message, offset or data"))
			return
		}
	}
	if req.Beat {
		n.beatNow()
	}
	answer := push.DeliverAnswer{Node: n.cfg.ID}
	for _, e := range req.Entries {
		outcome, ch := n.hub.Deliver(push.Entry{Channel: e.Channel, Offset: e.Offset, Prev: e.Prev, Message: &req.Messages[e.Message]})
		n.metrics.entries.WithLabelValues(outcomeNames[outcome]).Inc()
		switch outcome {
		case hub.Unknown:
			answer.Unknown = append(answer.Unknown, e.Channel)
		case hub.Gap:
			n.catchUp(ch, "gap")
		}
	}
	serve.JSON(w, http.StatusOK, answer)
}

// disconnect closes a user's connections, or those of one device.
func (n *Node) disconnect(w http.ResponseWriter, r *http.Request) {
	var req push.DisconnectRequest
	if p := serve.Decode(w, r, 4<<10, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	var answer push.DisconnectAnswer
	for _, c := range n.clientsOf(req.User) {
		if req.Device == "" || c.device == req.Device {
			c.close(push.CloseForced)
			answer.Closed++
		}
	}
	serve.JSON(w, http.StatusOK, answer)
}

func (n *Node) clientsOf(user push.UserID) []*client {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]*client, 0, len(n.users[user]))
	for c := range n.users[user] {
		list = append(list, c)
	}
	return list
}
