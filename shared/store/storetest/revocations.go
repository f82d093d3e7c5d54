package storetest

import (
	"cmp"
	"errors"
	"slices"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var revocationTests = []test{
	{"revocations/until they end", testRevocations},
	{"revocations/the same again", testRevokeTwice},
	{"revocations/full", testRevocationsFull},
	{"revocations/sweep", testSweepRevocations},
}

const manyRevocations = 100

func revoke(t *testing.T, s store.Store, r push.Revocation) {
	t.Helper()
	check(t, s.AddRevocation(t.Context(), r, base, manyRevocations))
}

// revoked returns what is revoked at now, users first.
func revoked(t *testing.T, s store.Store, now time.Time) []push.Revocation {
	t.Helper()
	list, err := s.ListRevocations(t.Context(), now)
	check(t, err)
	slices.SortFunc(list, func(a, b push.Revocation) int {
		return cmp.Or(cmp.Compare(a.TokenID, b.TokenID), cmp.Compare(a.User, b.User))
	})
	return list
}

func testRevocations(t *testing.T, s store.Store) {
	if got := revoked(t, s, base); len(got) != 0 {
		t.Errorf("at first %v is revoked", got)
	}
	user := push.Revocation{User: "42", At: base, Until: base.Add(time.Hour)}
	token := push.Revocation{TokenID: "42", At: base.Add(time.Second), Until: base.Add(time.Minute)}
	revoke(t, s, user)
	revoke(t, s, token)
	for _, step := range []struct {
		after time.Duration
		want  []push.Revocation
	}{
		{0, []push.Revocation{user, token}},
		{time.Minute - time.Millisecond, []push.Revocation{user, token}},
		{time.Minute, []push.Revocation{user}},
		{time.Hour, nil},
	} {
		if got := revoked(t, s, base.Add(step.after)); !slices.Equal(got, step.want) {
			t.Errorf("at base+%v %+v are revoked, want %+v", step.after, got, step.want)
		}
	}
	if term, err := s.Term(t.Context()); err != nil || term != (push.Term{}) {
		t.Errorf("revocations made the term %+v, %v", term, err)
	}
}

func testRevokeTwice(t *testing.T, s store.Store) {
	r := func(at, until time.Duration) push.Revocation {
		return push.Revocation{User: "u", At: base.Add(at), Until: base.Add(until)}
	}
	for _, step := range []struct{ add, want push.Revocation }{
		{r(time.Second, time.Hour), r(time.Second, time.Hour)},
		{r(time.Minute, time.Minute), r(time.Minute, time.Hour)},
		{r(0, 2*time.Hour), r(time.Minute, 2*time.Hour)},
	} {
		revoke(t, s, step.add)
		if got := revoked(t, s, base); !slices.Equal(got, []push.Revocation{step.want}) {
			t.Errorf("after adding %+v %+v are revoked, want %+v", step.add, got, step.want)
		}
	}
}

func testRevocationsFull(t *testing.T, s store.Store) {
	add := func(user push.UserID, now time.Time) error {
		return s.AddRevocation(t.Context(), push.Revocation{User: user, At: now, Until: now.Add(time.Hour)}, now, 2)
	}
	check(t, add("1", base))
	check(t, add("2", base))
	if err := add("3", base); !errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a third of two: %v, want %v", err, store.ErrFull)
	}
	check(t, add("2", base)) // no other
	if got := revoked(t, s, base); len(got) != 2 {
		t.Errorf("%+v are revoked, want two", got)
	}
	check(t, add("3", base.Add(time.Hour))) // the two have ended
}

func testSweepRevocations(t *testing.T, s store.Store) {
	swapped, err := s.SwapTerm(t.Context(), push.Term{}, push.Term{Number: 1})
	if err != nil || !swapped {
		t.Fatalf("SwapTerm = %v, %v", swapped, err)
	}
	epoch, err := s.Epoch(t.Context())
	check(t, err)
	revoke(t, s, push.Revocation{User: "u", At: base, Until: base.Add(time.Minute)})
	revoke(t, s, push.Revocation{TokenID: "j", At: base, Until: base.Add(time.Hour)})
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{time.Minute - time.Millisecond, 0}, {time.Minute, 1}, {time.Hour, 1}, {24 * time.Hour, 0}} {
		if n, err := s.Sweep(t.Context(), base.Add(step.after)); err != nil || n != step.want {
			t.Errorf("after %v %d records went, %v; want %d", step.after, n, err, step.want)
		}
	}
	term, err := s.Term(t.Context())
	check(t, err)
	if again, err := s.Epoch(t.Context()); err != nil || again != epoch || term.Number != 1 {
		t.Errorf("the sweep left term %+v and epoch %q, %v", term, again, err)
	}
}
