package collectfn

import (
	"context"
	"net/http"
	"strings"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
)

// get answers what became of one message: GET /v1/messages/{id...}. Its id may
// be written with slashes or with %2F.
func (h *Handler) get(w http.ResponseWriter, r *http.Request) {
	sender, ok := h.holder(w, r)
	if !ok {
		return
	}
	from, p := markOf[pageMark](r)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	id := push.MessageID(r.PathValue("id"))
	m, p := h.find(r.Context(), sender, id)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	s, err := h.stateOf(r.Context(), &m.Message, from)
	if !h.answered(w, r, err) {
		return
	}
	h.metrics.orders.WithLabelValues("state").Inc()
	serve.JSON(w, http.StatusOK, s)
}

// stateOf returns one page of what is known of m.
func (h *Handler) stateOf(ctx context.Context, m *push.Message, from pageMark) (*messageState, error) {
	outbox, err := h.store.LoadOutbox(ctx, []push.MessageID{m.ID})
	if err != nil {
		return nil, err
	}
	now := h.now()
	page := statePage{store: h.store, message: m, now: now, waiting: waitingState(m, outbox[m.ID], now), from: from}
	if err := page.fill(ctx); err != nil {
		return nil, err
	}
	s := &messageState{
		ID: m.ID, Event: m.Event, CreatedAt: m.CreatedAt.UTC(), ExpiresAt: m.ExpiresAt.UTC(),
		State: page.waiting, Recipients: page.recipients,
	}
	if s.Recipients == nil {
		s.Recipients = []recipientState{}
	}
	if page.waiting != stateParked { // that is what somebody has to deal with, however far it came
		for i := range s.Recipients {
			s.State = further(s.State, s.Recipients[i].State)
		}
	}
	if page.next != nil {
		s.Next = encodeMark(page.next)
	}
	return s, nil
}

// find returns the message of id, or a problem if there is none that sender may
// know of.
func (h *Handler) find(ctx context.Context, sender string, id push.MessageID) (store.Record, *push.Problem) {
	if id == "" || len(id) > push.MaxMessageID {
		return store.Record{}, push.NewProblem(push.CodeNotFound, "no message has an id of %d bytes", len(id))
	}
	if !h.sees(sender, id) {
		return store.Record{}, unknownMessage(id)
	}
	found, err := h.store.LoadMessages(ctx, []push.MessageID{id})
	if ctx.Err() == nil {
		h.kept.Note(h.log, err)
	}
	if err != nil {
		return store.Record{}, push.NewProblem(push.CodeUnavailable, "the store is away")
	}
	m, ok := found[id]
	if !ok {
		return store.Record{}, unknownMessage(id)
	}
	return m, nil
}

func unknownMessage(id push.MessageID) *push.Problem {
	if !strings.Contains(string(id), "/") {
		return push.NewProblem(push.CodeNotFound, "no message has the id %q: one begins with the name of its key or source, and a slash", id)
	}
	return push.NewProblem(push.CodeNotFound, "no message has the id %q, or its time is over", id)
}

// sees reports whether the holder of the key called sender may know of the
// message. What another key sent is hidden; what a webhook brought is not, and
// neither is what was sent with a key that there is no more.
func (h *Handler) sees(sender string, id push.MessageID) bool {
	owner, _, _ := strings.Cut(string(id), "/")
	return owner == sender || !h.cfg.Keys.Has(owner)
}

// answered reports whether the store answered; if not, r is refused.
func (h *Handler) answered(w http.ResponseWriter, r *http.Request, err error) bool {
	if r.Context().Err() == nil {
		h.kept.Note(h.log, err)
	}
	if err != nil {
		h.refuse(w, r, push.NewProblem(push.CodeUnavailable, "the store is away"))
		return false
	}
	return true
}

// queryOf returns the parameters of r's query. One that is not among known, that
// is empty or that occurs twice is a problem: an order must not mean more than
// whoever gave it thought.
func queryOf(r *http.Request, known ...string) (map[string]string, *push.Problem) {
	query := make(map[string]string)
	values := r.URL.Query()
	for _, name := range known {
		list, given := values[name]
		delete(values, name)
		if !given {
			continue
		}
		if len(list) != 1 || list[0] == "" {
			return nil, push.NewProblem(push.CodeBadRequest, "the parameter %s is empty or occurs more than once", name)
		}
		query[name] = list[0]
	}
	for name := range values {
		return nil, push.NewProblem(push.CodeUnknownField, "there is no parameter %q", name)
	}
	return query, nil
}
