package dispatchfn

import (
	"net/http"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
)

// keepCursors answers POST /v1/dispatch/cursors: cursor writes of nodes that do
// not write themselves.
func (h *Handler) keepCursors(w http.ResponseWriter, r *http.Request) {
	var batch store.CursorBatch
	if p := serve.Decode(w, r, MaxBody, &batch); p != nil {
		serve.Problem(w, r, p)
		return
	}
	err := batch.Write(r.Context(), h.store)
	if r.Context().Err() == nil { // else it was the node that gave up
		h.cursors.Note(h.log, err)
	}
	if err != nil {
		serve.Problem(w, r, push.NewProblem(push.CodeUnavailable, "the store did not take the cursors; send them again"))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
