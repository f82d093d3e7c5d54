package dispatchfn

import "time"

// Waiting returns how many small requests wait for a batch to go with.
func (h *Handler) Waiting() int {
	h.gathering.mu.Lock()
	defer h.gathering.mu.Unlock()
	return len(h.gathering.waiting)
}

// Fresh returns how long a request may have waited and still be known to be new.
func (h *Handler) Fresh() time.Duration { return h.fresh() }

// StaysNew has small requests count as new until they have waited for d.
func (h *Handler) StaysNew(d time.Duration) {
	h.gathering.mu.Lock()
	defer h.gathering.mu.Unlock()
	h.gathering.fresh = d
}

// How many batches of small requests are appended at once, and how young one is
// that others wait for; and how many requests may wait.
const (
	GatherAtOnce = gatherAtOnce
	GatherShare  = gatherShare
	WaitingCalls = waitingCalls
)

// Running returns how much runs that Wait waits for.
func (h *Handler) Running() int {
	h.running.mu.Lock()
	defer h.running.mu.Unlock()
	return h.running.n
}
