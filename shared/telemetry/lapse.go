package telemetry

import (
	"log/slog"
	"sync"
)

// A Lapse tells the log when something begins to fail and when it works again,
// and not for each try in between. Its zero value is ready; several goroutines
// may use it.
type Lapse struct {
	What string // that fails or works, for the log; set before the first Note

	mu      sync.Mutex // guards what follows
	failing bool
	failed  int // tries since it began
}

// Note takes the outcome of one try.
func (l *Lapse) Note(log *slog.Logger, err error) {
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
		log.Warn("fails", "what", l.What, "err", err)
	case ended:
		log.Info("works again", "what", l.What, "failed", failed)
	}
}
