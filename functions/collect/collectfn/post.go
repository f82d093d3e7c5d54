package collectfn

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/telemetry"
)

// headerReplayed says that the answer is that of an earlier request.
const headerReplayed = "Idempotent-Replayed"

// An accepted is the answer to one message.
type accepted struct {
	ID push.MessageID `json:"id"`
}

// post takes one message or an array of them.
func (h *Handler) post(w http.ResponseWriter, r *http.Request) {
	sender, ok := h.holder(w, r)
	if !ok {
		return
	}
	key, err := parseIdempotencyKey(r.Header.Values("Idempotency-Key"))
	if err != nil {
		h.refuse(w, r, push.NewProblem(push.CodeBadRequest, "%v", err))
		return
	}
	body, p := serve.Body(w, r, MaxBody)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	q := request{sender: sender, key: key, trace: telemetry.Trace(r.Header), now: h.now()}
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		h.postBatch(w, r, q, body)
		return
	}
	h.postOne(w, r, q, body)
}

func (h *Handler) postOne(w http.ResponseWriter, r *http.Request, q request, body []byte) {
	d, p := q.one(body)
	if p != nil {
		h.metrics.message(p.Code)
		h.refuse(w, r, p)
		return
	}
	o := h.accept(r.Context(), []*draft{d})[0]
	if o.problem != nil {
		h.refuse(w, r, o.problem)
		return
	}
	if o.repeat {
		w.Header().Set(headerReplayed, "true")
	}
	serve.JSON(w, http.StatusAccepted, accepted{o.id})
}

// one reads a body that is no array.
func (q request) one(body []byte) (*draft, *push.Problem) {
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) > 0 && trimmed[0] != '{' {
		// Anything else may be JSON, "null" even reads as a message without fields.
		if p := serve.DecodeBytes(body, new(json.RawMessage)); p != nil {
			return nil, p
		}
		return nil, push.NewProblem(push.CodeBadJSON, "the body must be a message or an array of messages")
	}
	return q.draft(body, q.key)
}

// postBatch answers each message of an array at its place, whatever is wrong
// with others. The whole is refused only if it is no array, is too long, or if
// the store is away, so that nothing was kept.
func (h *Handler) postBatch(w http.ResponseWriter, r *http.Request, q request, body []byte) {
	drafts, problems, p := q.batch(body)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	var good []*draft
	for i, d := range drafts {
		if problems[i] != nil {
			h.metrics.message(problems[i].Code)
			continue
		}
		good = append(good, d)
	}
	outcomes := h.accept(r.Context(), good)
	if len(outcomes) > 0 && outcomes[0].nothingKept {
		h.refuse(w, r, outcomes[0].problem)
		return
	}
	answer := make([]any, len(drafts))
	for i, next := 0, 0; i < len(drafts); i++ {
		if problems[i] != nil {
			answer[i] = problems[i]
			continue
		}
		if o := outcomes[next]; o.problem != nil {
			answer[i] = o.problem
		} else {
			answer[i] = accepted{o.id}
		}
		next++
	}
	serve.JSON(w, http.StatusAccepted, answer)
}

// batch reads a body that is an array. Each message becomes a draft or a
// problem. A message without an id gets one of the Idempotency-Key and its
// place, so that an array sent again as a whole is a repeat.
func (q request) batch(body []byte) ([]*draft, []*push.Problem, *push.Problem) {
	var items []json.RawMessage
	if p := serve.DecodeBytes(body, &items); p != nil {
		return nil, nil, p
	}
	if len(items) > MaxBatch {
		return nil, nil, push.NewProblem(push.CodeBodyTooLarge, "the array holds %d messages, more than %d", len(items), MaxBatch)
	}
	drafts := make([]*draft, len(items))
	problems := make([]*push.Problem, len(items))
	for i, raw := range items {
		if raw[0] != '{' {
			problems[i] = push.NewProblem(push.CodeBadJSON, "a message must be an object")
			continue
		}
		drafts[i], problems[i] = q.item(raw, i)
	}
	return drafts, problems, nil
}

func (q request) item(raw []byte, place int) (*draft, *push.Problem) {
	if q.key == "" {
		return q.draft(raw, "")
	}
	var named struct{ ID *string }
	if json.Unmarshal(raw, &named) == nil && named.ID != nil {
		return q.draft(raw, "")
	}
	return q.draft(raw, fmt.Sprintf("%s/%d", q.key, place))
}
