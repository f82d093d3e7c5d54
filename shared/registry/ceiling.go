package registry

import (
	"context"
	"fmt"

	"pushcluster/shared/push"
)

// ensureBelow sees to it that the ceiling of term t is above the offset, and
// raises it in the store when the offset comes near. It returns the term as it
// is then; same is false if t is no longer in force, and another one is
// returned. An error means that the offset must not be shown to anybody.
func (r *Registry) ensureBelow(ctx context.Context, t push.Term, offset push.Offset) (now push.Term, same bool, err error) {
	if kept := r.term.Load(); kept != nil && kept.Marker == t.Marker {
		t = *kept
	}
	if offset+span(ceilingSlack) < t.Ceiling {
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
	if err != nil && offset < t.Ceiling {
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
		if offset+span(ceilingSlack) < t.Ceiling {
			r.term.Store(&t)
			return t, true, nil
		}
		next := t
		next.Ceiling = max(offset, push.OffsetAt(r.Now())) + span(ceilingAhead)
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
			now, err := r.agree(ctx, s)
			return now, false, err
		}
		t = kept
	}
	return push.Term{}, false, ErrUnsettled
}
