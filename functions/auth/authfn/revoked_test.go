package authfn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store/sqlitestore"
	"pushcluster/shared/token"
)

// A shelf is a real store of revocations that can be taken away.
type shelf struct {
	*sqlitestore.Store
	away  atomic.Bool
	reads atomic.Int64
}

// ListRevocations has all the time that it needs: Auth gives it a second, which a
// machine that is busy with other tests may take away.
func (s *shelf) ListRevocations(ctx context.Context, now time.Time) ([]push.Revocation, error) {
	s.reads.Add(1)
	if s.away.Load() {
		return nil, errors.New("away")
	}
	return s.Store.ListRevocations(context.WithoutCancel(ctx), now)
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	st, err := sqlitestore.Open(filepath.Join(t.TempDir(), "store.db"), sqlitestore.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	if err := st.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &shelf{Store: st}
}

func (s *shelf) revoke(t *testing.T, r push.Revocation) {
	t.Helper()
	if err := s.AddRevocation(t.Context(), r, r.At, 100); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyRevoked(t *testing.T) {
	tests := map[string]struct {
		revoke func(now time.Time, jti string) push.Revocation
		want   int
	}{
		"nothing":  {nil, 200},
		"the user": {func(now time.Time, _ string) push.Revocation { return push.Revocation{User: "42", At: now} }, 401},
		"the user, long ago": {func(now time.Time, _ string) push.Revocation {
			return push.Revocation{User: "42", At: now.Add(-time.Minute)}
		}, 200},
		"another user":  {func(now time.Time, _ string) push.Revocation { return push.Revocation{User: "43", At: now} }, 200},
		"the token":     {func(now time.Time, jti string) push.Revocation { return push.Revocation{TokenID: jti, At: now} }, 401},
		"another token": {func(now time.Time, jti string) push.Revocation { return push.Revocation{TokenID: jti + "x", At: now} }, 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			a := newAuthWith(t, token.Config{Keys: parseKeys(t, ":HS256:"+tokenSecret)}, s)
			text, _, err := a.minter.Mint(token.Grant{User: "42"})
			if err != nil {
				t.Fatal(err)
			}
			plain := hmacVerifier(t)
			identity, err := plain.Verify(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			if tt.revoke != nil {
				r := tt.revoke(a.now, identity.TokenID)
				r.Until = a.now.Add(time.Hour)
				s.revoke(t, r)
			}
			resp, body := post(t, a.signed, a.url+"/v1/auth/verify", fmt.Sprintf(`{"token":%q}`, text), nil)
			if tt.want == 401 {
				wantProblem(t, resp, body, 401, push.CodeTokenInvalid, "")
			} else if resp.StatusCode != 200 {
				t.Errorf("answered %d %s, want 200", resp.StatusCode, body)
			}
		})
	}
}

func hmacVerifier(t *testing.T) *token.Verifier {
	t.Helper()
	v, err := token.NewVerifier(token.Config{Keys: parseKeys(t, ":HS256:"+tokenSecret)}, nil, time.Now, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRevokedList goes through the life of the copy: how often it is read, and
// what counts while it cannot be.
func TestRevokedList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fixed{}
		l := newRevokedList(source, time.Now, slog.New(slog.DiscardHandler), newMetrics(nil))
		id := &push.Identity{User: "42", IssuedAt: time.Now()}
		ask := func(name string, want bool, wantErr bool, reads int) {
			t.Helper()
			got, err := l.covers(t.Context(), id)
			if got != want || (err != nil) != wantErr || source.reads != reads {
				t.Errorf("%s: covers = %v, %v after %d reads; want %v, an error %v, %d reads", name, got, err, source.reads, want, wantErr, reads)
			}
		}
		source.err = errors.New("away")
		ask("never read", false, true, 1)
		ask("soon after", false, true, 1)
		if l.ready(t.Context()) == nil {
			t.Error("ready, though the list was never read")
		}
		source.err = nil
		time.Sleep(listFor)
		ask("read", false, false, 2)
		source.list = []push.Revocation{{User: "42", At: time.Now(), Until: time.Now().Add(10 * time.Second)}}
		time.Sleep(listFor - 1)
		ask("just before the next read", false, false, 2)
		time.Sleep(time.Nanosecond)
		ask("with the next read", true, false, 3)
		source.err = errors.New("away")
		time.Sleep(listFor)
		ask("away: the last list counts", true, false, 4)
		if err := l.ready(t.Context()); err == nil {
			t.Error("ready, though the list cannot be read")
		}
		time.Sleep(6 * time.Second)
		ask("it ends without a read", false, false, 5)
	})
}

// A fixed list of revocations; for time under the test's control alone.
type fixed struct {
	list  []push.Revocation
	err   error
	reads int
}

func (f *fixed) ListRevocations(context.Context, time.Time) ([]push.Revocation, error) {
	f.reads++
	return f.list, f.err
}

// TestRevokedListSharesReads has many ask at once: they share a read.
func TestRevokedListSharesReads(t *testing.T) {
	s := newShelf(t)
	l := newRevokedList(s, time.Now, slog.New(slog.DiscardHandler), newMetrics(nil))
	done := make(chan error, 50)
	for range cap(done) {
		go func() {
			_, err := l.covers(t.Context(), &push.Identity{User: "42"})
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := s.reads.Load(); n > 5 {
		t.Errorf("%d reads for %d who asked at once", n, cap(done))
	}
}

func TestReadyTellsOfRevocations(t *testing.T) {
	s := newShelf(t)
	s.away.Store(true)
	a := newAuthWith(t, token.Config{Keys: parseKeys(t, ":HS256:"+tokenSecret)}, s)
	text, _, err := a.minter.Mint(token.Grant{User: "42"})
	if err != nil {
		t.Fatal(err)
	}
	resp, body := post(t, a.signed, a.url+"/v1/auth/verify", fmt.Sprintf(`{"token":%q}`, text), nil)
	wantProblem(t, resp, body, 503, push.CodeUnavailable, "")
	resp, err = a.signed.Get(a.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 503 {
		t.Errorf("/readyz = %d while what is revoked cannot be read, want 503", resp.StatusCode)
	}
}
