package verify

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

func TestCacheEnds(t *testing.T) {
	tests := map[string]struct {
		token  string
		after  time.Duration
		cached bool
	}{
		"just before 10 s":     {"42", 10*time.Second - 1, true},
		"at 10 s":              {"42", 10 * time.Second, false},
		"before it expires":    {"42 3s", 3*time.Second - 1, true},
		"when it expires":      {"42 3s", 3 * time.Second, false},
		"expires after 10 s":   {"42 1h", 10 * time.Second, false},
		"within a second life": {"42", 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAuth(t)
			v, c := newVerifier(t, Config{}, a)
			want(t, v, tt.token, "42", nil)
			c.advance(tt.after)
			v.Verify(t.Context(), tt.token)
			if tt.cached {
				a.wantAsked(t, 1)
			} else {
				a.wantAsked(t, 2)
			}
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{Entries: 10}, a)
	for i := range 100 {
		want(t, v, fmt.Sprint("u", i), push.UserID(fmt.Sprint("u", i)), nil)
	}
	if n := len(v.cache.young) + len(v.cache.old); n > 10 {
		t.Errorf("the cache holds %d answers, more than 10", n)
	}
	want(t, v, "u99", "u99", nil)
	a.wantAsked(t, 100) // the newest is among them
}

func TestEvict(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{}, a)
	ask := func() {
		want(t, v, "1", "1", nil)
		want(t, v, "1 1h", "1", nil)
		want(t, v, "2", "2", nil)
	}
	ask()
	a.wantAsked(t, 3)
	v.Evict("1")
	ask()
	a.wantAsked(t, 5)
	v.EvictAll()
	ask()
	a.wantAsked(t, 8)
}

// TestEvictWhileAsking evicts while an answer is under way: it may be from
// before the revocation, so it is neither kept nor given to later callers.
func TestEvictWhileAsking(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{}, a)
	hold := make(chan struct{})
	a.set(func(w http.ResponseWriter, _ *http.Request) { <-hold; serve.JSON(w, 200, push.Identity{User: "42"}) })
	first := make(chan error, 1)
	go func() { _, err := v.Verify(t.Context(), "42"); first <- err }()
	<-a.arrived
	v.Evict("42")
	a.set(func(w http.ResponseWriter, r *http.Request) {
		serve.Problem(w, r, push.NewProblem(push.CodeTokenInvalid, "revoked"))
	})
	want(t, v, "42", "", ErrInvalid)
	close(hold)
	<-first
	want(t, v, "42", "", ErrInvalid)
}

// TestRevoke revokes tokens that Auth still takes: it has not heard yet.
func TestRevoke(t *testing.T) {
	tests := map[string]struct {
		revoked push.Revocation
		want    error // of a token of user 42, issued at moment, with the id t1
	}{
		"its user":               {push.Revocation{User: "42", At: moment}, ErrInvalid},
		"its id":                 {push.Revocation{TokenID: "t1"}, ErrInvalid},
		"older ones of the user": {push.Revocation{User: "42", At: moment.Add(-time.Millisecond)}, nil},
		"another user":           {push.Revocation{User: "4", At: moment}, nil},
		"another id":             {push.Revocation{TokenID: "t"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAuth(t)
			v, clock := newVerifier(t, Config{}, a)
			identity := push.Identity{User: "42", IssuedAt: moment, TokenID: "t1"}
			a.set(func(w http.ResponseWriter, _ *http.Request) { serve.JSON(w, 200, identity) })
			want(t, v, "t", "42", nil)
			v.Revoke(tt.revoked)
			if got := v.Revoked(&identity); got != (tt.want != nil) {
				t.Errorf("Revoked = %v", got)
			}
			user := push.UserID("42")
			if tt.want != nil {
				user = ""
			}
			want(t, v, "t", user, tt.want)
			clock.advance(revokedFor)
			want(t, v, "t", "42", nil) // by then Auth decides alone
		})
	}
}

func TestRevokedIsBounded(t *testing.T) {
	var l revokedList
	for i := range maxRevoked + 1 {
		l.add(push.Revocation{TokenID: fmt.Sprint(i)}, moment)
	}
	if len(l.list) != maxRevoked || l.covers(&push.Identity{TokenID: "0"}, moment) || !l.covers(&push.Identity{TokenID: fmt.Sprint(maxRevoked)}, moment) {
		t.Errorf("%d are remembered, want %d, the newest", len(l.list), maxRevoked)
	}
	l.add(push.Revocation{TokenID: "later"}, moment.Add(revokedFor))
	if len(l.list) != 1 {
		t.Errorf("after their time %d are remembered, want the new one", len(l.list))
	}
}

func BenchmarkVerifyCached(b *testing.B) {
	v, err := New(Config{}, "http://127.0.0.1:1", http.DefaultClient, func() time.Time { return moment }, nil)
	if err != nil {
		b.Fatal(err)
	}
	token := strings.Repeat("t", 300)
	_, life, _ := v.cache.find(cacheKey{}, moment)
	v.cache.keep(sum(token), life, push.Identity{User: "42"}, moment)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

func TestTidy(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := newCache(100, 10*time.Second)
	c.keep(sum("a"), 0, push.Identity{User: "1"}, now)
	tests := []struct {
		after time.Duration
		left  int
	}{
		{5 * time.Second, 1}, {11 * time.Second, 1}, {15 * time.Second, 1}, {22 * time.Second, 0}, {60 * time.Second, 0},
	}
	for _, tt := range tests {
		c.tidy(now.Add(tt.after))
		if got := len(c.young) + len(c.old); got != tt.left {
			t.Errorf("after %s %d answers are kept, want %d", tt.after, got, tt.left)
		}
	}
}

// A token may end long after what a Unix time in ns can tell.
func TestKeptIsWhatWasKept(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, id := range map[string]push.Identity{
		"no end":   {User: "1", TokenID: "t"},
		"soon":     {User: "1", ExpiresAt: now.Add(time.Hour), IssuedAt: now.Add(-1500 * time.Millisecond)},
		"for ever": {User: "1", ExpiresAt: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), IssuedAt: now},
		"more":     {User: "1", Channels: []push.Channel{"news"}, ExpiresAt: time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		c := newCache(10, time.Minute)
		c.keep(sum(name), 0, id, now)
		if got, _, ok := c.find(sum(name), now.Add(time.Second)); !ok || !reflect.DeepEqual(got, id) {
			t.Errorf("%s: found %+v, %v; want %+v", name, got, ok, id)
		}
	}
}
