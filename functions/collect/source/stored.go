package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"sync/atomic"
	"time"

	"pushcluster/shared/store"
)

// secretsEvery is how often the secrets of a source of the store that are
// elsewhere are looked up again.
const secretsEvery = time.Minute

// readTime bounds one reading of a source of the store, all its secrets
// together: a Lambda whose request is at it lives longer (15 s in template.yaml),
// and keeps the last good version. It goes on when that request is given up.
const readTime = 10 * time.Second

// A stored is one source of the store, as it was put there once. It is read when
// somebody asks for it, so that nobody waits for the rules and secrets of others:
// a rule takes about a millisecond to compile, and there may be 100,000 of them.
type stored struct {
	live   *Live
	record store.SourceRecord
	before *Source // what was last good of its name before it; nil: nothing was

	last atomic.Pointer[reading] // nil: nobody asked yet

	turn turn // held while it is read
}

// A reading is what came of reading a stored source. It does not change.
type reading struct {
	source  *Source     // to be used; nil: none can be
	wrong   *Unusable   // nil: nothing is
	at      time.Time   // when it ended
	outside []secretSum // the secrets that are elsewhere
}

// A secretSum tells whether a secret that is elsewhere is as it was.
type secretSum struct {
	value string   // as it is written in the source
	sum   [32]byte // of what it stood for; zero: it was not to be had
}

// errNotNow is why a source is not read for somebody who waits no more.
var errNotNow = &Fault{Reason: "it was not read yet; ask again"}

// is reports whether s was read of r as it is now.
func (s *stored) is(r store.SourceRecord) bool {
	return s.record.UpdatedAt.Equal(r.UpdatedAt) && bytes.Equal(s.record.Definition, r.Definition)
}

// good returns the source that may be used in place of one that cannot; nil, of
// the nil stored too: there is none.
func (s *stored) good() *Source {
	if s == nil {
		return nil
	}
	if last := s.last.Load(); last != nil && last.source != nil {
		return last.source
	}
	return s.before
}

// source returns what is to be used, or an [*Unusable]. It is read first where
// it was not, or where what it needs may have changed; who finds somebody else
// doing that waits only if nothing is known of it yet, and until ctx ends.
func (s *stored) source(ctx context.Context) (*Source, error) {
	last := s.last.Load()
	if ctx.Err() == nil && s.due(last) {
		last = s.refresh(ctx, last)
	}
	switch {
	case last == nil:
		return nil, &Unusable{s.record.Name, s.record.UpdatedAt, true, errNotNow}
	case last.source == nil:
		return nil, last.wrong
	}
	return last.source, nil
}

// due reports whether it is to be read now. What is wrong in itself stays so
// until it is put into the store again; a secret may be there at last.
func (s *stored) due(last *reading) bool {
	if last == nil {
		return true
	}
	age := s.live.now().Sub(last.at)
	if last.source == nil && last.wrong.Away {
		return age >= listEvery
	}
	return len(last.outside) > 0 && age >= secretsEvery
}

// refresh reads it, and returns what is known then; nil: nothing is, and ctx has
// ended.
func (s *stored) refresh(ctx context.Context, last *reading) *reading {
	mine := s.turn.try()
	if !mine && last == nil {
		mine = s.turn.wait(ctx)
	}
	if !mine {
		return s.last.Load()
	}
	defer s.turn.end()
	if last = s.last.Load(); ctx.Err() == nil && s.due(last) {
		// Who gives a request up takes no source away.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
		defer cancel()
		last = s.read(ctx, last)
		s.last.Store(last)
	}
	return last
}

// read reads it anew, but for its rules where no secret has changed since last.
// No secret is looked up twice.
func (s *stored) read(ctx context.Context, last *reading) *reading {
	next := &reading{}
	defer func() { next.at = s.live.now() }() // who waited for it does not do it again
	look := once(s.live.resolve)
	if last != nil && (last.wrong == nil || !last.wrong.Away) && unchanged(ctx, look, last.outside) {
		next.source, next.wrong, next.outside = last.source, last.wrong, last.outside
		return next
	}
	noted := func(ctx context.Context, value string) (string, error) {
		found, err := look(ctx, value)
		if err != nil || found != value {
			next.outside = append(next.outside, secretSum{value, sumOf(found, err)})
		}
		return found, err
	}
	source, away, err := parseSource(ctx, s.record.Name, s.record.Definition, s.live.compiler, noted)
	if err == nil {
		source.UpdatedAt = s.record.UpdatedAt
		next.source = source
		return next
	}
	next.wrong = &Unusable{s.record.Name, s.record.UpdatedAt, away, err}
	if last == nil || last.wrong == nil {
		s.live.log.Error("a source of the store is wrong; its last good version stays", "source", s.record.Name, "err", err)
	}
	if good := s.good(); good != nil {
		kept := *good
		kept.Wrong = next.wrong
		next.source = &kept
	}
	return next
}

// once returns a Resolve that asks resolve for each value once, and gives that
// answer again. It is for one goroutine.
func once(resolve Resolve) Resolve {
	type answer struct {
		found string
		err   error
	}
	asked := make(map[string]answer)
	return func(ctx context.Context, value string) (string, error) {
		a, ok := asked[value]
		if !ok {
			a.found, a.err = resolve(ctx, value)
			asked[value] = a
		}
		return a.found, a.err
	}
}

// unchanged reports whether secrets stand for what they stood for.
func unchanged(ctx context.Context, look Resolve, secrets []secretSum) bool {
	for _, one := range secrets {
		if sumOf(look(ctx, one.value)) != one.sum {
			return false
		}
	}
	return true
}

func sumOf(found string, err error) [32]byte {
	if err != nil {
		return [32]byte{}
	}
	return sha256.Sum256([]byte(found))
}

// Lasting returns err if it is an [*Unusable] that somebody has to mend; ok is
// false where it is none, or may heal by itself.
func Lasting(err error) (wrong *Unusable, ok bool) {
	ok = errors.As(err, &wrong) && !wrong.Away
	return wrong, ok
}
