package collectfn

import (
	"context"
	"net/http"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// maxUserCursors bounds what is told of one user's devices.
const maxUserCursors = 5000

// Questions asks Dispatch what only push nodes know, and brings them orders.
// Each call has a deadline of its own.
type Questions interface {
	Info(ctx context.Context, req push.InfoRequest) (push.InfoAnswer, error)
	Disconnect(ctx context.Context, req push.DisconnectRequest) (push.DisconnectAnswer, error)
	Revoke(ctx context.Context, req push.RevokeRequest) (push.DisconnectAnswer, error)
	Nodes(ctx context.Context) (push.NodesAnswer, error)
	Subscribe(ctx context.Context, req push.SubscribeRequest) (push.SubscriptionAnswer, error)
	Unsubscribe(ctx context.Context, req push.UnsubscribeRequest) (push.SubscriptionAnswer, error)
}

// A userState is what is known of a user.
type userState struct {
	User        push.UserID           `json:"user"`
	Connections []push.OpenConnection `json:"connections"`
	Devices     []userDevice          `json:"devices"`
	Unanswered  []push.NodeID         `json:"unanswered,omitempty"` // nodes that may have more connections
}

type userDevice struct {
	Device  push.Device  `json:"device"`
	Cursors []userCursor `json:"cursors"`
}

type userCursor struct {
	Channel      push.Channel `json:"channel"`
	Received     push.Offset  `json:"received"`
	Acknowledged push.Offset  `json:"acknowledged"`
	UpdatedAt    time.Time    `json:"updated_at"`
}

// user answers what is known of a user: GET /v1/users/{id}.
func (h *Handler) user(w http.ResponseWriter, r *http.Request) {
	user, _, ok := h.userOf(w, r)
	if !ok {
		return
	}
	cursors, err := h.store.LoadUserCursors(r.Context(), user, maxUserCursors)
	if !h.answered(w, r, err) {
		return
	}
	var nodes push.InfoAnswer
	if !h.ask(w, r, func(ctx context.Context) (err error) {
		nodes, err = h.cfg.Questions.Info(ctx, push.InfoRequest{User: user})
		return err
	}) {
		return
	}
	s := userState{User: user, Connections: nodes.Connections, Devices: []userDevice{}, Unanswered: nodes.Unanswered}
	if s.Connections == nil {
		s.Connections = []push.OpenConnection{}
	}
	for _, c := range cursors { // by device
		if n := len(s.Devices); n == 0 || s.Devices[n-1].Device != c.Device {
			s.Devices = append(s.Devices, userDevice{Device: c.Device})
		}
		d := &s.Devices[len(s.Devices)-1]
		d.Cursors = append(d.Cursors, userCursor{c.Channel, c.Received, c.Acknowledged, c.UpdatedAt.UTC()})
	}
	h.metrics.orders.WithLabelValues("user").Inc()
	serve.JSON(w, http.StatusOK, s)
}

// kick closes a user's connections, or those of one device, with 3503: DELETE
// /v1/users/{id}/connections.
func (h *Handler) kick(w http.ResponseWriter, r *http.Request) {
	user, query, ok := h.userOf(w, r, "device")
	if !ok {
		return
	}
	device := push.Device(query["device"])
	if err := device.Check(); err != nil {
		h.refuse(w, r, push.NewProblem(push.CodeInvalidValue, "%v", err))
		return
	}
	var answer push.DisconnectAnswer
	if !h.ask(w, r, func(ctx context.Context) (err error) {
		answer, err = h.cfg.Questions.Disconnect(ctx, push.DisconnectRequest{User: user, Device: device})
		return err
	}) {
		return
	}
	h.metrics.orders.WithLabelValues("kick").Inc()
	serve.JSON(w, http.StatusOK, answer)
}

// userOf returns the user that r's path names and the parameters of its query;
// ok is false if something is wrong, and r is answered.
func (h *Handler) userOf(w http.ResponseWriter, r *http.Request, parameters ...string) (user push.UserID, query map[string]string, ok bool) {
	if _, ok := h.holder(w, r); !ok {
		return "", nil, false
	}
	query, p := queryOf(r, parameters...)
	user = push.UserID(r.PathValue("id"))
	if p == nil {
		if err := user.Check(); err != nil {
			p = push.NewProblem(push.CodeInvalidValue, "%v", err)
		}
	}
	if p != nil {
		h.refuse(w, r, p)
		return "", nil, false
	}
	return user, query, true
}

// ask asks Dispatch; if it does not answer, r is refused and ask reports false.
func (h *Handler) ask(w http.ResponseWriter, r *http.Request, question func(context.Context) error) bool {
	if h.cfg.Questions == nil {
		h.refuse(w, r, push.NewProblem(push.CodeUnavailable, "nobody here can ask the nodes: DISPATCH_RPC_URL is not set"))
		return false
	}
	err := question(r.Context())
	if r.Context().Err() == nil {
		h.questions.Note(h.log, err)
	}
	if err != nil {
		h.refuse(w, r, push.NewProblem(push.CodeUnavailable, "the nodes cannot be asked now"))
		return false
	}
	return true
}
