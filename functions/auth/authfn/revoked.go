package authfn

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"pushcluster/shared/push"
)

const (
	// listFor is how long the list of what is revoked counts before it is read
	// again, and how long a failed read stands before the next try.
	listFor = 2 * time.Second
	// listTime bounds one read of it.
	listTime = time.Second
)

// errNoList means that the list was never read.
var errNoList = errors.New("what is revoked was never read")

// Revocations tells what is revoked; the durable store does. Whoever adds to it
// keeps it bounded.
type Revocations interface {
	ListRevocations(ctx context.Context, now time.Time) ([]push.Revocation, error)
}

// A revokedList is a copy of what is revoked. It is read when somebody asks and
// it is older than listFor; as long as it cannot be read, the last copy counts.
type revokedList struct {
	source  Revocations // nil: nothing is ever revoked
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics
	reads   singleflight.Group

	mu     sync.Mutex // guards what follows
	began  time.Time  // of the last read, by the monotonic clock
	err    error      // of the last read
	loaded bool
	users  map[push.UserID][]push.Revocation
	tokens map[string][]push.Revocation
}

func newRevokedList(source Revocations, now func() time.Time, log *slog.Logger, m *metrics) *revokedList {
	return &revokedList{source: source, now: now, log: log, metrics: m, err: errNoList}
}

// covers reports whether the token that says id is revoked. An error means that
// nobody knows.
func (l *revokedList) covers(ctx context.Context, id *push.Identity) (bool, error) {
	if l.source == nil {
		return false, nil
	}
	l.refresh(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.loaded {
		return false, l.err
	}
	now := l.now()
	for _, list := range [][]push.Revocation{l.users[id.User], l.tokens[id.TokenID]} {
		for _, r := range list {
			if r.Until.After(now) && r.Covers(id) {
				return true, nil
			}
		}
	}
	return false, nil
}

// ready returns nil if the last read was good.
func (l *revokedList) ready(ctx context.Context) error {
	if l.source == nil {
		return nil
	}
	l.refresh(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// refresh reads the list if that is due. Those who ask meanwhile wait for the
// same read, but not beyond their ctx.
func (l *revokedList) refresh(ctx context.Context) {
	l.mu.Lock()
	due := l.began.IsZero() || time.Since(l.began) >= listFor
	l.mu.Unlock()
	if !due {
		return
	}
	done := l.reads.DoChan("", func() (any, error) {
		l.read(context.WithoutCancel(ctx))
		return nil, nil
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (l *revokedList) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	began := time.Now()
	list, err := l.source.ListRevocations(ctx, l.now())
	users, tokens := make(map[push.UserID][]push.Revocation), make(map[string][]push.Revocation)
	for _, r := range list {
		if r.User != "" {
			users[r.User] = append(users[r.User], r)
		} else {
			tokens[r.TokenID] = append(tokens[r.TokenID], r)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	failed := l.err
	l.began, l.err = began, err
	if err != nil {
		l.metrics.lists.WithLabelValues("failed").Inc()
		if failed == nil || errors.Is(failed, errNoList) {
			l.log.Warn("what is revoked cannot be read, the last list counts", "loaded", l.loaded, "err", err)
		}
		return
	}
	l.metrics.lists.WithLabelValues("ok").Inc()
	l.metrics.revoked.Set(float64(len(list)))
	if failed != nil && !errors.Is(failed, errNoList) {
		l.log.Info("what is revoked can be read again")
	}
	l.users, l.tokens, l.loaded = users, tokens, true
}
