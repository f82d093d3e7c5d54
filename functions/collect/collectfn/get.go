package collectfn

import (
	"net/http"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// A status is what is known of a message.
type status struct {
	ID        push.MessageID `json:"id"`
	Event     string         `json:"event,omitempty"`
	CreatedAt time.Time      `json:"created_at"`
	ExpiresAt time.Time      `json:"expires_at"`
	State     string         `json:"state"`
}

// get answers what became of one message. Its id may be written with slashes or
// with %2F.
func (h *Handler) get(w http.ResponseWriter, r *http.Request) {
	if _, ok := h.holder(w, r); !ok {
		return
	}
	id := push.MessageID(r.PathValue("id"))
	if id == "" || len(id) > push.MaxMessageID {
		h.refuse(w, r, push.NewProblem(push.CodeNotFound, "no message has an id of %d bytes", len(id)))
		return
	}
	found, err := h.store.LoadMessages(r.Context(), []push.MessageID{id})
	if r.Context().Err() == nil {
		h.kept.note(h.log, err)
	}
	if err != nil {
		h.refuse(w, r, push.NewProblem(push.CodeUnavailable, "the store is away"))
		return
	}
	m, ok := found[id]
	if !ok {
		h.refuse(w, r, push.NewProblem(push.CodeNotFound, "no message has the id %q, or its time is over", id))
		return
	}
	now := h.now()
	s := status{ID: m.ID, Event: m.Event, CreatedAt: m.CreatedAt.UTC(), ExpiresAt: m.ExpiresAt.UTC(), State: "stored"}
	switch {
	case m.Expired(now):
		s.State = "expired"
	case m.DeliverAt.After(now):
		s.State = "scheduled"
	}
	serve.JSON(w, http.StatusOK, s)
}
