package collectfn

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
)

// Bounds of one page of what is parked.
const (
	pageParked  = 1000
	parkedReads = 10 // of the store, where most of what it holds is other senders'
)

// A parkedList is one page of what is parked, the longest parked first.
type parkedList struct {
	Parked []parkedMessage `json:"parked"`
	Next   string          `json:"next,omitempty"` // asks for the page behind this one
}

// A parkedMessage is a message that could not be delivered.
type parkedMessage struct {
	ID       push.MessageID `json:"id"`
	Reason   string         `json:"reason"`
	Attempts int            `json:"attempts"`
	ParkedAt time.Time      `json:"parked_at"`
}

// parked lists what could not be delivered: GET /v1/parked.
func (h *Handler) parked(w http.ResponseWriter, r *http.Request) {
	sender, ok := h.holder(w, r)
	if !ok {
		return
	}
	from, p := markOf[parkedMark](r)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	list, err := h.listParked(r.Context(), sender, store.ParkedQuery{AfterAt: from.At, AfterMessage: from.Message, Limit: pageParked})
	if !h.answered(w, r, err) {
		return
	}
	h.metrics.orders.WithLabelValues("parked").Inc()
	serve.JSON(w, http.StatusOK, list)
}

// listParked reads from the store until a page is full of what sender may know
// of. A page that is not full may still have one behind it.
func (h *Handler) listParked(ctx context.Context, sender string, q store.ParkedQuery) (*parkedList, error) {
	list := &parkedList{Parked: []parkedMessage{}}
	for range parkedReads {
		entries, err := h.store.ListParked(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if h.sees(sender, e.Message) {
				list.Parked = append(list.Parked, parkedMessage{e.Message, e.Reason, e.Attempts, e.At.UTC()})
			}
			q.AfterAt, q.AfterMessage = e.At, e.Message
			if len(list.Parked) == pageParked {
				break
			}
		}
		if len(entries) < pageParked && len(list.Parked) < pageParked {
			return list, nil
		}
		if len(list.Parked) == pageParked {
			break
		}
	}
	list.Next = encodeMark(parkedMark{q.AfterAt, q.AfterMessage})
	return list, nil
}

// replay has a parked message tried again, at once and under its own id: POST
// /v1/parked/{id...}/replay.
func (h *Handler) replay(w http.ResponseWriter, r *http.Request) {
	id, ok := strings.CutSuffix(r.PathValue("rest"), "/replay")
	if !ok || id == "" {
		h.refuse(w, r, push.NewProblem(push.CodeNotFound, "nothing lives at this path; a replay is POST /v1/parked/{id}/replay"))
		return
	}
	h.unpark(w, r, push.MessageID(id), unparking{name: "replay", status: http.StatusAccepted, becomes: stateStored, do: h.putBack})
}

// putBack replays the message of id, unless it has expired. A message whose
// record cannot be read is tried too: it may be readable by now.
func (h *Handler) putBack(ctx context.Context, id push.MessageID) (bool, *push.Problem, error) {
	found, err := h.store.LoadMessages(ctx, []push.MessageID{id})
	if errors.Is(err, store.ErrUnavailable) {
		return false, nil, err
	}
	if m, ok := found[id]; ok && m.Expired(h.now()) {
		return false, push.NewProblem(push.CodeConflict, "the message has expired"), nil
	}
	done, err := h.store.ReplayParked(ctx, id, h.now())
	return done, nil, err
}

// discard gives a parked message up: DELETE /v1/parked/{id...}.
func (h *Handler) discard(w http.ResponseWriter, r *http.Request) {
	h.unpark(w, r, push.MessageID(r.PathValue("id")), unparking{
		name: "discard", status: http.StatusOK, becomes: stateCancelled,
		do: func(ctx context.Context, id push.MessageID) (bool, *push.Problem, error) {
			done, err := h.store.DiscardParked(ctx, id, h.now())
			return done, nil, err
		},
	})
}

// An unparking is an order about a parked message.
type unparking struct {
	name    string
	status  int
	becomes state
	// do reports whether the message was parked, and is no more.
	do func(context.Context, push.MessageID) (bool, *push.Problem, error)
}

func (h *Handler) unpark(w http.ResponseWriter, r *http.Request, id push.MessageID, order unparking) {
	sender, ok := h.holder(w, r)
	if !ok {
		return
	}
	if _, p := queryOf(r); p != nil {
		h.refuse(w, r, p)
		return
	}
	notParked := push.NewProblem(push.CodeNotFound, "no message of the id %q is parked", id)
	if id == "" || len(id) > push.MaxMessageID || !h.sees(sender, id) {
		h.refuse(w, r, notParked)
		return
	}
	done, p, err := order.do(r.Context(), id)
	if !h.answered(w, r, err) {
		return
	}
	if p == nil && !done {
		p = notParked
	}
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	h.metrics.orders.WithLabelValues(order.name).Inc()
	h.log.Info("parked message dealt with", "order", order.name, "key", sender, "message", id)
	serve.JSON(w, order.status, changed{id, order.becomes})
}
