package telemetry

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// lapseRest is for how long nothing fails when it works again: of what fails now
// and then amid tries that do not, no single one is told.
const lapseRest = time.Second

// A Lapse tells the log when something begins to fail and when it works again,
// and not for each try in between. It works again with the first try that does,
// lapseRest or more after the last that failed. Its zero value is ready; several
// goroutines may use it.
type Lapse struct {
	What string // that fails or works, for the log; set before the first Note

	failing atomic.Bool // changed with mu held

	mu     sync.Mutex // guards what follows
	failed int        // tries since it began
	last   time.Time  // when the last of them was noted
}

// Note takes the outcome of one try. Where all is well it waits for nobody.
func (l *Lapse) Note(log *slog.Logger, err error) {
	if err == nil && !l.failing.Load() {
		return
	}
	l.mu.Lock()
	failing, failed := l.failing.Load(), l.failed
	began := err != nil && !failing
	ended := err == nil && failing && time.Since(l.last) >= lapseRest
	switch {
	case err != nil:
		l.failing.Store(true)
		l.failed++
		l.last = time.Now()
	case ended:
		l.failing.Store(false)
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
