package limit

import (
	"context"
	"sync"
	"time"

	"pushcluster/shared/registry"
)

// maxSubjects is how many subjects a [Local] holds at least before it looks for
// those that it may forget.
const maxSubjects = 4096

// A Local judges requests of this process alone, by its own clock. It may be
// used by several goroutines.
type Local struct {
	now func() time.Time

	mu    sync.Mutex // guards what follows
	due   map[string][]time.Time
	prune int // forget what is over when due is this large
}

// NewLocal returns a judge whose subjects have sent nothing yet. A nil now is
// time.Now.
func NewLocal(now func() time.Time) *Local {
	if now == nil {
		now = time.Now
	}
	return &Local{now: now, due: make(map[string][]time.Time), prune: maxSubjects}
}

// Take judges one request as registry.Limiter does. It never fails.
func (l *Local) Take(_ context.Context, subject string, rates []registry.Rate) (registry.Verdict, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	due := make([]time.Time, len(rates))
	copy(due, l.due[subject])
	v := registry.Verdict{Passes: true, Left: make([]registry.Left, len(rates))}
	for i, r := range rates {
		if most := now.Add(r.Room()); due[i].After(most) {
			due[i] = most
		}
		if due[i].Before(now) {
			due[i] = now
		}
		if due[i].Add(r.Interval() - r.Room()).After(now) {
			v.Passes = false
		}
	}
	for i, r := range rates {
		if v.Passes {
			due[i] = due[i].Add(r.Interval())
		}
		ahead := due[i].Sub(now)
		v.Left[i] = registry.Left{
			Requests: int((r.Room() - ahead) / r.Interval()),
			Full:     ahead,
			Next:     max(0, ahead+r.Interval()-r.Room()),
		}
	}
	if v.Passes && len(rates) > 0 {
		l.due[subject] = due
		l.forget(now)
	}
	return v, nil
}

// forget removes subjects that are as if they had never sent. l.mu is held.
func (l *Local) forget(now time.Time) {
	if len(l.due) < l.prune {
		return
	}
	for subject, due := range l.due {
		over := true
		for _, d := range due {
			over = over && !d.After(now)
		}
		if over {
			delete(l.due, subject)
		}
	}
	l.prune = max(maxSubjects, 2*len(l.due))
}

// Held returns how many subjects are remembered.
func (l *Local) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.due)
}
