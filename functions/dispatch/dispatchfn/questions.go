package dispatchfn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/nodeclient"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// maxQuestion bounds the body of a question, in bytes.
const maxQuestion = 8 << 10

// info answers which connections a user has, on whatever node.
func (h *Handler) info(w http.ResponseWriter, r *http.Request) {
	var req push.InfoRequest
	if !question(w, r, &req, func() error { return req.User.Check() }) {
		return
	}
	answer := push.InfoAnswer{Connections: []push.OpenConnection{}}
	unanswered, err := askAll(r.Context(), h, func(ctx context.Context, node push.NodeID) (push.InfoAnswer, error) {
		return h.nodes.Info(ctx, node, req)
	}, func(node push.NodeID, a push.InfoAnswer) {
		for _, c := range a.Connections {
			if c.Node == node { // else another incarnation answers at the address, and is asked too
				answer.Connections = append(answer.Connections, c)
			}
		}
	})
	if err != nil {
		h.unasked(w, r, err)
		return
	}
	slices.SortFunc(answer.Connections, func(a, b push.OpenConnection) int { return a.Since.Compare(b.Since) })
	answer.Unanswered = unanswered
	serve.JSON(w, http.StatusOK, answer)
}

// disconnect closes a user's connections, or those of one device, on all nodes.
func (h *Handler) disconnect(w http.ResponseWriter, r *http.Request) {
	var req push.DisconnectRequest
	if !question(w, r, &req, func() error { return req.Check() }) {
		return
	}
	h.close(w, r, func(ctx context.Context, node push.NodeID) (push.DisconnectAnswer, error) {
		return h.nodes.Disconnect(ctx, node, req)
	})
}

// revoke closes the connections whose tokens were revoked, on all nodes.
func (h *Handler) revoke(w http.ResponseWriter, r *http.Request) {
	var req push.RevokeRequest
	if !question(w, r, &req, func() error {
		if (req.User == "") == (req.TokenID == "") {
			return errors.New("one of user and jti is due")
		}
		return nil
	}) {
		return
	}
	h.close(w, r, func(ctx context.Context, node push.NodeID) (push.DisconnectAnswer, error) {
		return h.nodes.Revoke(ctx, node, req)
	})
}

// close answers how many connections an order to all nodes closed.
func (h *Handler) close(w http.ResponseWriter, r *http.Request, order func(context.Context, push.NodeID) (push.DisconnectAnswer, error)) {
	var answer push.DisconnectAnswer
	unanswered, err := askAll(r.Context(), h, order, func(_ push.NodeID, a push.DisconnectAnswer) { answer.Closed += a.Closed })
	if err != nil {
		h.unasked(w, r, err)
		return
	}
	answer.Unanswered = unanswered
	serve.JSON(w, http.StatusOK, answer)
}

// question reads the body of r into req and checks it. If something is wrong it
// answers and reports false.
func question(w http.ResponseWriter, r *http.Request, req any, check func() error) bool {
	p := serve.Decode(w, r, maxQuestion, req)
	if p == nil {
		if err := check(); err != nil {
			p = push.NewProblem(push.CodeBadRequest, "%v", err)
		}
	}
	if p != nil {
		serve.Problem(w, r, p)
		return false
	}
	return true
}

// unasked answers that nobody could be asked.
func (h *Handler) unasked(w http.ResponseWriter, r *http.Request, err error) {
	h.log.Warn("nodes not asked", "err", err)
	serve.Problem(w, r, push.NewProblem(push.CodeUnavailable, "it is not known now which nodes there are"))
}

// askAll asks every node that is alive, side by side, and gives each answer to
// take, one after the other. It returns the nodes that did not answer in time,
// sorted.
func askAll[A any](ctx context.Context, h *Handler, ask func(context.Context, push.NodeID) (A, error), take func(push.NodeID, A)) ([]push.NodeID, error) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.AskTime)
	defer cancel()
	live, err := h.reg.Live(ctx)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var g errgroup.Group
	g.SetLimit(h.cfg.Fanout)
	var mu sync.Mutex // guards what take changes, and unanswered
	var unanswered []push.NodeID
	for _, lease := range live {
		g.Go(func() error {
			result := pushPanic
			err := h.guard(func() error {
				deadline, cancel := context.WithTimeout(ctx, h.cfg.PushTime)
				defer cancel()
				answer, err := ask(deadline, lease.Node)
				result = resultOf(err)
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					take(lease.Node, answer)
				}
				return err
			})()
			h.metrics.requests.WithLabelValues(result).Inc()
			if err != nil && !errors.Is(err, nodeclient.ErrOtherNode) { // such a one is gone, and so are its connections
				mu.Lock()
				defer mu.Unlock()
				unanswered = append(unanswered, lease.Node)
				h.log.Debug("question not answered", "node", lease.Node, "err", err)
			}
			return nil
		})
	}
	_ = g.Wait() // none of them returns an error
	slices.Sort(unanswered)
	return unanswered, nil
}
