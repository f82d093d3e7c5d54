package registry

import (
	"context"
	"fmt"
	"time"

	"pushcluster/shared/push"
)

// How far ahead the ceiling is put: of Redis' clock, and of an offset, which is ahead
// of that clock itself where terms have followed one another quickly. It is raised
// when half of that has gone.
const (
	ceilingAhead = 10 * time.Second
	ceilingMore  = time.Second
)

// ceiling returns where the ceiling is put at now for an offset that must be below.
func ceiling(offset, now push.Offset) push.Offset {
	return max(offset+push.OffsetSpan(ceilingMore), now+push.OffsetSpan(ceilingAhead))
}

// near reports whether a ceiling is due to be raised at now for that offset.
func near(offset, now, ceiling push.Offset) bool {
	return max(offset+push.OffsetSpan(ceilingMore/2), now+push.OffsetSpan(ceilingAhead/2)) >= ceiling
}

// ensureBelow sees to it that the ceiling of term t is above the offset, and
// raises it in the store when the offset comes near. It returns the term as it
// is then; same is false if t is no longer in force, and another one is
// returned. An error means that the offset must not be shown to anybody.
func (r *Registry) ensureBelow(ctx context.Context, t push.Term, offset push.Offset) (now push.Term, same bool, err error) {
	if kept := r.term.Load(); kept != nil && kept.Marker == t.Marker {
		t = *kept
	}
	if !near(offset, push.OffsetAt(r.Now()), t.Ceiling) {
		return t, true, nil
	}
	if offset < t.Ceiling {
		select {
		case <-r.settling:
		default:
			return t, true, nil // somebody is at it, and there is time
		}
	} else if err := r.settle(ctx); err != nil {
		return push.Term{}, false, err
	}
	defer r.unsettle()

	raised, same, err := r.raise(ctx, t, offset)
	if err != nil && offset < t.Ceiling && r.term.Load() != nil {
		return t, true, nil // there is time: whoever is next tries again
	}
	return raised, same, err
}

// raise puts the ceiling of term t ahead of offset and clock. The caller holds
// settling.
func (r *Registry) raise(ctx context.Context, t push.Term, offset push.Offset) (now push.Term, same bool, err error) {
	if kept := r.term.Load(); kept != nil {
		if kept.Marker != t.Marker {
			return *kept, false, nil
		}
		t = *kept
	}
	for range settleTries {
		now := push.OffsetAt(r.Now())
		if !near(offset, now, t.Ceiling) {
			r.term.Store(&t)
			return t, true, nil
		}
		next := t
		next.Ceiling = ceiling(offset, now)
		swapped, err := r.terms.SwapTerm(ctx, t, next)
		if err != nil {
			return push.Term{}, false, fmt.Errorf("raise the ceiling of term %d: %w", t.Number, err)
		}
		if swapped {
			r.term.Store(&next)
			return next, true, nil
		}
		kept, err := r.terms.Term(ctx)
		if err != nil {
			return push.Term{}, false, fmt.Errorf("load the term: %w", err)
		}
		if kept.Marker != t.Marker {
			// Another one began, so this process must look at Redis for itself.
			r.forget(t)
			s, err := r.look(ctx, nil)
			if err != nil {
				return push.Term{}, false, err
			}
			other, err := r.agree(ctx, s)
			return other, false, err
		}
		t = kept
	}
	return push.Term{}, false, ErrUnsettled
}
