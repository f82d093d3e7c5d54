package collectfn

import (
	"log/slog"
	"sync"
)

// A lapse tells the log when something begins to fail and when it works again,
// and not for each request in between.
type lapse struct {
	what string

	mu      sync.Mutex // guards what follows
	failing bool
	failed  int // calls since it began
}

// note takes the outcome of one call.
func (l *lapse) note(log *slog.Logger, err error) {
	l.mu.Lock()
	began := err != nil && !l.failing
	ended := err == nil && l.failing
	failed := l.failed
	l.failing = err != nil
	if err != nil {
		l.failed++
	} else {
		l.failed = 0
	}
	l.mu.Unlock()
	switch {
	case began:
		log.Warn("fails", "what", l.what, "err", err)
	case ended:
		log.Info("works again", "what", l.what, "failed", failed)
	}
}
