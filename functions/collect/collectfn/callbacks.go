package collectfn

import (
	"net/http"
	"strings"
	"time"

	"pushcluster/functions/collect/callback"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
)

// callbacksOf returns by which the sources of drafts are told what becomes of
// them, where they want to be. A repeat has one too, for its first try may have
// died before it was put; one that is there already stays as it is.
func (h *Handler) callbacksOf(drafts []*draft) (entries []store.Callback) {
	for _, d := range drafts {
		if d.callback != "" {
			entries = append(entries, store.Callback{Message: d.ID, Source: d.callback,
				DueAt: callback.FirstLook(h.now()), Until: d.ExpiresAt.Add(push.RepeatWindow)})
		}
	}
	return entries
}

// withoutCallbacks says of every message that its source could not be promised
// to be told: all of it is to be sent again.
func withoutCallbacks(drafts []*draft, outcomes []outcome) {
	for i, d := range drafts {
		if d.callback != "" {
			outcomes[i].problem = push.NewProblem(push.CodeUnavailable, "the message was kept, but not that you want to be told of it; send it again")
		}
	}
}

// A callbackList is one page of callbacks that are parked, the longest parked
// first.
type callbackList struct {
	Callbacks []parkedCallback `json:"callbacks"`
	Next      string           `json:"next,omitempty"` // asks for the page behind this one
}

// A parkedCallback is a message whose source could not be told of it.
type parkedCallback struct {
	ID           push.MessageID `json:"id"`
	Source       string         `json:"source"`
	Reason       string         `json:"reason"`
	Attempts     int            `json:"attempts"`
	FailingSince time.Time      `json:"failing_since,omitzero"`
	ParkedAt     time.Time      `json:"parked_at"`
}

// listCallbacks lists the callbacks that are parked: GET /v1/callbacks.
func (h *Handler) listCallbacks(w http.ResponseWriter, r *http.Request) {
	if _, ok := h.holder(w, r); !ok {
		return
	}
	from, p := markOf[parkedMark](r)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	entries, err := h.store.ListCallbacks(r.Context(), store.CallbacksQuery{AfterAt: from.At, AfterMessage: from.Message, Limit: pageParked})
	if !h.answered(w, r, err) {
		return
	}
	list := callbackList{Callbacks: []parkedCallback{}}
	for _, c := range entries {
		list.Callbacks = append(list.Callbacks, parkedCallback{c.Message, c.Source, c.Reason, c.Attempts, c.FailingSince, c.DueAt})
	}
	if n := len(entries); n == pageParked {
		list.Next = encodeMark(parkedMark{entries[n-1].DueAt, entries[n-1].Message})
	}
	h.metrics.orders.WithLabelValues("callbacks").Inc()
	serve.JSON(w, http.StatusOK, list)
}

// replayCallback has a parked callback tried again at once: POST
// /v1/callbacks/{id...}/replay.
func (h *Handler) replayCallback(w http.ResponseWriter, r *http.Request) {
	id, ok := strings.CutSuffix(r.PathValue("rest"), "/replay")
	if !ok || id == "" {
		h.refuse(w, r, push.NewProblem(push.CodeNotFound, "nothing lives at this path; a replay is POST /v1/callbacks/{id}/replay"))
		return
	}
	h.changeCallback(w, r, push.MessageID(id), "replay_callback", func(id push.MessageID) (bool, error) {
		return h.store.ReplayCallback(r.Context(), id, h.now())
	})
}

// discardCallback gives a parked callback up: DELETE /v1/callbacks/{id...}.
func (h *Handler) discardCallback(w http.ResponseWriter, r *http.Request) {
	h.changeCallback(w, r, push.MessageID(r.PathValue("id")), "discard_callback", func(id push.MessageID) (bool, error) {
		return h.store.DiscardCallback(r.Context(), id)
	})
}

// changeCallback carries out an order about the parked callback of id; do
// reports whether there was one.
func (h *Handler) changeCallback(w http.ResponseWriter, r *http.Request, id push.MessageID, order string, do func(push.MessageID) (bool, error)) {
	key, ok := h.holder(w, r)
	if !ok {
		return
	}
	if _, p := queryOf(r); p != nil {
		h.refuse(w, r, p)
		return
	}
	done := false
	if id != "" && len(id) <= push.MaxMessageID {
		var err error
		if done, err = do(id); !h.answered(w, r, err) {
			return
		}
	}
	if !done {
		h.refuse(w, r, push.NewProblem(push.CodeNotFound, "no callback of a message of the id %q is parked", id))
		return
	}
	h.metrics.orders.WithLabelValues(order).Inc()
	h.log.Info("parked callback dealt with", "order", order, "key", key, "message", id)
	w.WriteHeader(http.StatusNoContent)
}
