package stack

import (
	"context"
	"log/slog"
	"sync"
)

// A startLog holds back what a process logs while it starts, when it is not
// ready for good reasons. It is told if the start fails, and forgotten if it
// succeeds; what comes afterwards passes through.
type startLog struct {
	slog.Handler
	gate *logGate // shared by all handlers made from one
}

type logGate struct {
	mu   sync.Mutex // guards what follows
	open bool
	held []heldRecord
}

type heldRecord struct {
	to     slog.Handler
	record slog.Record
}

// maxHeld bounds the records that are held back; the first ones tell most.
const maxHeld = 1000

func newStartLog(to slog.Handler) startLog { return startLog{to, &logGate{}} }

// Handle holds the record back or passes it on (slog.Handler).
func (s startLog) Handle(ctx context.Context, r slog.Record) error {
	s.gate.mu.Lock()
	if !s.gate.open {
		if len(s.gate.held) < maxHeld {
			s.gate.held = append(s.gate.held, heldRecord{s.Handler, r.Clone()})
		}
		s.gate.mu.Unlock()
		return nil
	}
	s.gate.mu.Unlock()
	return s.Handler.Handle(ctx, r)
}

// WithAttrs returns a handler behind the same gate (slog.Handler).
func (s startLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return startLog{s.Handler.WithAttrs(attrs), s.gate}
}

// WithGroup returns a handler behind the same gate (slog.Handler).
func (s startLog) WithGroup(name string) slog.Handler {
	return startLog{s.Handler.WithGroup(name), s.gate}
}

// started lets everything pass from now on. What was held back is told if tell
// is true, and below slog.LevelWarn in any case.
func (s startLog) started(tell bool) {
	s.gate.mu.Lock()
	held := s.gate.held
	s.gate.open, s.gate.held = true, nil
	s.gate.mu.Unlock()
	for _, h := range held {
		if tell || h.record.Level < slog.LevelWarn {
			h.to.Handle(context.Background(), h.record)
		}
	}
}
