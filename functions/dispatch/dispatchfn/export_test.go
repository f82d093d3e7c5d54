package dispatchfn

// Waiting returns how many small requests wait for a batch to go with.
func (h *Handler) Waiting() int {
	h.gathering.mu.Lock()
	defer h.gathering.mu.Unlock()
	return len(h.gathering.waiting)
}

// How many batches of small requests are appended at once, and how young one is
// that others wait for.
const (
	GatherAtOnce = gatherAtOnce
	GatherShare  = gatherShare
)
