package signature

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"sync"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// rememberedIDs bounds the ids that [Require] remembers: two generations of as
// many, about 8 MiB together at most.
const rememberedIDs = 1 << 17

// Require returns next behind a check of every request's signature. It reads
// the body, at most limit bytes, and gives next a body with the same bytes. A
// request is refused
//
//   - with signature_invalid if it is not signed by one of v's keys,
//   - with signature_stale if it is signed outside the time window, or if its
//     id was used before within it: then it is a replay. Our own services sign
//     each try anew, so their repeats are not replays.
//
// An invocation of the function by a service that IAM allowed to invoke it
// ([serve.Invoked]) needs no signature; next then reads the body unbounded by
// limit.
//
// Ids are remembered for twice the tolerance. Beyond 131,072 new ones the
// oldest are forgotten; a replay of those passes within its window, and what it
// asks for is a repeat that changes nothing.
func Require(v *Verifier, limit int64, next http.Handler) http.Handler {
	g := newGuard(v)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if serve.Invoked(r.Context()) {
			next.ServeHTTP(w, r)
			return
		}
		// Read and judge nothing of a request that does not even claim to be signed.
		if r.Header.Get(keySignature) == "" {
			serve.Problem(w, r, unsigned())
			return
		}
		body, p := serve.Body(w, r, limit)
		if p == nil {
			p = g.check(r.Header, body)
		}
		if p != nil {
			serve.Problem(w, r, p)
			return
		}
		r.Body = serve.WholeBody(body)
		r.ContentLength = int64(len(body))
		next.ServeHTTP(w, r)
	})
}

// RequireStatement returns next behind the same check as [Require], for requests
// that have no body: what is signed in its place is what statement says of the
// request.
func RequireStatement(v *Verifier, statement func(*http.Request) []byte, next http.Handler) http.Handler {
	g := newGuard(v)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := unsigned()
		if r.Header.Get(keySignature) != "" {
			p = g.check(r.Header, statement(r))
		}
		if p != nil {
			serve.Problem(w, r, p)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// A guard checks signatures, and that none comes twice.
type guard struct {
	verifier *Verifier
	seen     replays
}

func newGuard(v *Verifier) *guard {
	return &guard{v, replays{span: 2 * v.cfg.Tolerance, most: rememberedIDs}}
}

// check returns why a request whose signature should be of signed is refused,
// nil if it is not.
func (g *guard) check(h http.Header, signed []byte) *push.Problem {
	now := g.verifier.cfg.Now()
	stamp, err := g.verifier.Verify(h, signed, now)
	if err != nil {
		return problem(err)
	}
	if !g.seen.first(stamp.ID, now) {
		return push.NewProblem(push.CodeSignatureStale, "the request's %s was used before", HeaderID)
	}
	return nil
}

func unsigned() *push.Problem {
	return push.NewProblem(push.CodeSignatureInvalid, "the request is not signed: no %s", HeaderSignature)
}

func problem(err error) *push.Problem {
	switch {
	case errors.Is(err, ErrStale):
		return push.NewProblem(push.CodeSignatureStale, "the %s is too far from the present", HeaderTimestamp)
	case errors.Is(err, ErrMissing):
		return push.NewProblem(push.CodeSignatureInvalid, "%v", err)
	default:
		return push.NewProblem(push.CodeSignatureInvalid, "the %s matches none of the secrets", HeaderSignature)
	}
}

// Replays remembers ids for at least span, in two generations: when the young
// one is older than span or full, it becomes the old one, which is forgotten.
type replays struct {
	span time.Duration
	most int

	mu         sync.Mutex // guards what follows
	young, old map[idHash]struct{}
	born       time.Time // of young
}

// An idHash stands for an id: ids have a stranger's length, hashes have ours.
type idHash [16]byte

// first reports whether id was not seen before, and remembers it.
func (s *replays) first(id string, now time.Time) bool {
	sum := sha256.Sum256([]byte(id))
	h := idHash(sum[:16])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil || now.Sub(s.born) >= s.span || len(s.young) >= s.most {
		s.old, s.young, s.born = s.young, make(map[idHash]struct{}), now
	}
	if _, ok := s.young[h]; ok {
		return false
	}
	if _, ok := s.old[h]; ok {
		return false
	}
	s.young[h] = struct{}{}
	return true
}
