package node

import (
	"net/http"
	"slices"
	"time"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

// maxDeliver bounds a deliver request's body: 10,000 entries of one large
// message, or many small ones.
const maxDeliver = 16 << 20

// Internal returns the node API, for the internal port. Every request must be
// signed so that callers accepts it; a stream is, once.
func (n *Node) Internal(callers *signature.Verifier) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/node/deliver", n.deliver)
	mux.HandleFunc("POST /v1/node/disconnect", n.disconnect)
	mux.HandleFunc("POST /v1/node/info", n.info)
	mux.HandleFunc("POST /v1/node/revoke", n.revoke)
	mux.HandleFunc("POST /v1/node/status", n.status)
	mux.HandleFunc("POST /v1/node/subscribe", n.subscribeUser)
	mux.HandleFunc("POST /v1/node/unsubscribe", n.unsubscribeUser)
	all := http.NewServeMux()
	all.Handle("GET "+push.StreamPath, signature.RequireStatement(callers, streamStatement, http.HandlerFunc(n.stream)))
	all.Handle("/", signature.Require(callers, maxDeliver, n.counted(mux)))
	return all
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
	n.streams.batches.WithLabelValues(byRequest).Inc()
	unknown, p := n.take(&req)
	if p != nil {
		serve.Problem(w, r, p)
		return
	}
	serve.JSON(w, http.StatusOK, push.DeliverAnswer{Node: n.cfg.ID, Unknown: unknown})
}

// take gives the entries of req to the connections here, and returns the
// channels that have none. It keeps nothing of req; the names it returns are
// parts of it.
func (n *Node) take(req *push.DeliverRequest) (unknown []push.Channel, p *push.Problem) {
	for i := range req.Entries {
		e := &req.Entries[i]
		if e.Message < 0 || e.Message >= len(req.Messages) || e.Offset == 0 || len(req.Messages[e.Message].Data) == 0 {
			return nil, push.NewProblem(push.CodeBadRequest, "an entry names no message, offset or data")
		}
	}
	if req.Beat {
		n.beatNow()
	}
	var outcomes [hub.Outcomes]int
	for i := range req.Entries {
		e := &req.Entries[i]
		outcome, ch := n.hub.Deliver(push.Entry{Channel: e.Channel, Offset: e.Offset, Prev: e.Prev, Message: &req.Messages[e.Message]})
		outcomes[outcome]++
		switch outcome {
		case hub.Unknown:
			unknown = append(unknown, e.Channel)
		case hub.Gap:
			n.catchUp(ch, "gap")
		}
	}
	for outcome, count := range outcomes {
		if count > 0 {
			n.metrics.entries.WithLabelValues(outcomeNames[hub.Outcome(outcome)]).Add(float64(count))
		}
	}
	return unknown, nil
}

// disconnect closes a user's connections, or those of one device, or one.
func (n *Node) disconnect(w http.ResponseWriter, r *http.Request) {
	var req push.DisconnectRequest
	if p := serve.Decode(w, r, maxOrder, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	code, err := push.CustomClose(req.Code, req.Reason)
	if err != nil {
		serve.Problem(w, r, push.NewProblem(push.CodeBadRequest, "%v", err))
		return
	}
	var answer push.DisconnectAnswer
	for _, c := range n.clientsOf(req.User) {
		if (req.Device == "" || c.device == req.Device) && (req.Client == "" || c.id.String() == req.Client) && !slices.Contains(req.Except, c.id.String()) {
			c.close(code)
			answer.Closed++
		}
	}
	serve.JSON(w, http.StatusOK, answer)
}

// info answers which connections a user has here.
func (n *Node) info(w http.ResponseWriter, r *http.Request) {
	var req push.InfoRequest
	if p := serve.Decode(w, r, 4<<10, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	answer := push.InfoAnswer{Connections: []push.OpenConnection{}}
	for _, c := range n.clientsOf(req.User) {
		c.mu.Lock()
		since := c.since
		c.mu.Unlock()
		if since != 0 {
			at := time.Unix(0, since).UTC().Truncate(time.Millisecond)
			answer.Connections = append(answer.Connections, push.OpenConnection{Node: n.cfg.ID, Device: c.device, Since: at})
		}
	}
	serve.JSON(w, http.StatusOK, answer)
}

// revoke closes the connections whose tokens were revoked. The verifier is told
// first, so that none of them comes back by what it keeps (see [Node.enroll]).
func (n *Node) revoke(w http.ResponseWriter, r *http.Request) {
	var req push.RevokeRequest
	if p := serve.Decode(w, r, 4<<10, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	if (req.User == "") == (req.TokenID == "") {
		serve.Problem(w, r, push.NewProblem(push.CodeBadRequest, "one of user and jti is due"))
		return
	}
	n.verifier.Revoke(req.Revocation)
	clients := n.clientsOf(req.User)
	if req.User == "" {
		clients = n.allClients()
	}
	var answer push.DisconnectAnswer
	for _, c := range clients {
		c.mu.Lock()
		covered := c.coveredBy(&req.Revocation)
		c.mu.Unlock()
		if covered {
			c.close(push.CloseInvalidToken)
			answer.Closed++
		}
	}
	serve.JSON(w, http.StatusOK, answer)
}
