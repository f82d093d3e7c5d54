package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// answerBatch stands in for Auth's answer to a batch.
func (a *auth) answerBatch(w http.ResponseWriter, r *http.Request) {
	var req push.VerifyBatchRequest
	if p := serve.Decode(w, r, 1<<20, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	a.mu.Lock()
	a.batches = append(a.batches, len(req.Tokens))
	answer := a.batch
	a.mu.Unlock()
	a.arrived <- struct{}{}
	if answer != nil {
		answer(w, r, req.Tokens)
		return
	}
	var all push.VerifyBatchAnswer
	for _, t := range req.Tokens {
		id := identityOf(t)
		all.Results = append(all.Results, push.VerifyResult{Identity: &id})
	}
	serve.JSON(w, 200, all)
}

func (a *auth) setBatch(answer func(w http.ResponseWriter, r *http.Request, tokens []string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.batch = answer
}

func (a *auth) sizes() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.batches
}

// An outcome of Verify, by its token.
type outcomeOf struct {
	token string
	id    push.Identity
	err   error
}

// verifyAll asks about tokens at once; what came arrives on the channel.
func verifyAll(t *testing.T, v *Verifier, tokens ...string) <-chan outcomeOf {
	out := make(chan outcomeOf, len(tokens))
	for _, token := range tokens {
		go func() {
			id, err := v.Verify(t.Context(), token)
			out <- outcomeOf{token, id, err}
		}()
	}
	return out
}

// waitOpen waits until n questions have no answer.
func waitOpen(t *testing.T, v *Verifier, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		v.desk.mu.Lock()
		open := len(v.desk.byName)
		v.desk.mu.Unlock()
		if open == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d questions are open, want %d", open, n)
		}
		runtime.Gosched() // there is nothing to wait on
	}
}

// busy has one question, about token first, be at Auth until release is called.
func busy(t *testing.T, a *auth, v *Verifier, first string) (out <-chan outcomeOf, release func()) {
	t.Helper()
	hold := make(chan struct{})
	a.set(func(w http.ResponseWriter, _ *http.Request) { <-hold; serve.JSON(w, 200, identityOf(first)) })
	for len(a.arrived) > 0 {
		<-a.arrived // what was asked before
	}
	out = verifyAll(t, v, first)
	<-a.arrived
	a.set(nil)
	return out, func() { close(hold) }
}

func names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(prefix, i)
	}
	return list
}

func wantGood(t *testing.T, out <-chan outcomeOf, n int) {
	t.Helper()
	for range n {
		if o := <-out; o.err != nil || string(o.id.User) != o.token {
			t.Errorf("Verify(%q) = %+v, %v", o.token, o.id, o.err)
		}
	}
}

// TestQuestionsGoTogether has many questions come while one is at Auth.
func TestQuestionsGoTogether(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{Parallel: 1}, a)
	first, release := busy(t, a, v, "first")
	const many = push.MaxTokens + 44
	rest := verifyAll(t, v, names("u", many)...)
	waitOpen(t, v, many+1)
	release()
	wantGood(t, first, 1)
	wantGood(t, rest, many)
	a.wantAsked(t, 1)
	if got, want := a.sizes(), []int{push.MaxTokens, 44}; !reflect.DeepEqual(got, want) {
		t.Errorf("batches of %v, want %v", got, want)
	}
	again := verifyAll(t, v, names("u", many)...)
	wantGood(t, again, many)
	if n := len(a.sizes()); n != 2 {
		t.Errorf("%d batches, though all is cached", n)
	}
}

// TestAnsweredMeanwhile has a caller find nothing kept, and come to ask when another's
// question has just been answered.
func TestAnsweredMeanwhile(t *testing.T) {
	a := newAuth(t)
	v, c := newVerifier(t, Config{}, a)
	_, life, _ := v.cache.find(sum("42"), c.Now())
	want(t, v, "42", "42", nil)
	late := func() *question {
		q := v.desk.ask(questionName{sum("42"), life}, "42")
		<-q.done
		return q
	}
	if q := late(); q.err != nil || q.identity.User != "42" {
		t.Errorf("who comes late is answered %+v, %v", q.identity, q.err)
	}
	a.wantAsked(t, 1)
	// A revocation counts from when it is known, before the answers that it covers go.
	v.revoked.add(push.Revocation{User: "42", At: moment}, v.now())
	if q := late(); !errors.Is(q.err, ErrInvalid) {
		t.Errorf("as the token is revoked, who comes late is answered %+v, %v", q.identity, q.err)
	}
	a.wantAsked(t, 2)
	v.Revoke(push.Revocation{User: "42", At: moment})
	if q := late(); !errors.Is(q.err, ErrInvalid) {
		t.Errorf("after the token was revoked, who comes late is answered %+v, %v", q.identity, q.err)
	}
	a.wantAsked(t, 3)
}

// TestNothingSlowHoldsOthers has an Auth that does not answer the first request:
// what comes later goes without it.
func TestNothingSlowHoldsOthers(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{}, a)
	first, release := busy(t, a, v, "first")
	wantGood(t, verifyAll(t, v, names("u", 20)...), 20)
	wantGood(t, verifyAll(t, v, "alone"), 1)
	release()
	wantGood(t, first, 1)
}

// TestParallelIsBounded has more come than may be asked at once.
func TestParallelIsBounded(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{Parallel: 3}, a)
	hold := make(chan struct{})
	a.set(func(w http.ResponseWriter, _ *http.Request) { <-hold; serve.JSON(w, 200, push.Identity{User: "1 "}) })
	// Tokens that are not plain go alone, each in a request of its own.
	out := verifyAll(t, v, names(" ", 30)...)
	waitOpen(t, v, 30)
	for range 3 {
		<-a.arrived
	}
	v.desk.mu.Lock()
	under, waiting := v.desk.requests, len(v.desk.alone)
	v.desk.mu.Unlock()
	if under != 3 || waiting != 27 {
		t.Errorf("%d requests are under way and %d wait, want 3 and 27", under, waiting)
	}
	close(hold)
	for range 30 {
		if o := <-out; o.err != nil {
			t.Error(o.err)
		}
	}
	a.wantAsked(t, 30)
}

// TestNeighbours has a batch in which everything goes wrong that can: each token
// gets its own answer.
func TestNeighbours(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{Parallel: 1}, a)
	problem := func(code push.Code) push.VerifyResult { return push.VerifyResult{Problem: push.NewProblem(code, "x")} }
	results := map[string]push.VerifyResult{
		"expired":     problem(push.CodeTokenExpired),
		"invalid":     problem(push.CodeTokenInvalid),
		"unavailable": problem(push.CodeUnavailable),
		"over":        {Identity: &push.Identity{User: "over", ExpiresAt: moment}},
		"revoked":     {Identity: &push.Identity{User: "revoked", TokenID: "t1"}},
		"nobody":      {Identity: &push.Identity{User: "a*"}},
		"later":       {}, // and then alone
		"good":        {Identity: &push.Identity{User: "good", Topics: []string{"a*"}, Info: json.RawMessage(`{"a":[1]}`)}},
		"plain":       {Identity: &push.Identity{User: "plain", Channels: []push.Channel{"news"}, ExpiresAt: moment.Add(time.Hour)}},
	}
	v.Revoke(push.Revocation{TokenID: "t1"})
	a.setBatch(func(w http.ResponseWriter, _ *http.Request, tokens []string) {
		var all push.VerifyBatchAnswer
		for _, token := range tokens {
			all.Results = append(all.Results, results[token])
		}
		serve.JSON(w, 200, all)
	})
	first, release := busy(t, a, v, "first")
	tokens := []string{"not/plain"}
	for token := range results {
		tokens = append(tokens, token)
	}
	out := verifyAll(t, v, tokens...)
	waitOpen(t, v, len(tokens)+1)
	release()
	wantGood(t, first, 1)
	wants := map[string]error{
		"expired": ErrExpired, "over": ErrExpired, "invalid": ErrInvalid, "revoked": ErrInvalid,
		"unavailable": ErrUnavailable, "nobody": ErrUnavailable,
	}
	for range tokens {
		o := <-out
		if !errors.Is(o.err, wants[o.token]) || (o.err == nil) != (wants[o.token] == nil) {
			t.Errorf("Verify(%q) = %v, want %v", o.token, o.err, wants[o.token])
		}
		if r := results[o.token]; o.err == nil && r.Identity != nil && !reflect.DeepEqual(o.id, *r.Identity) {
			t.Errorf("Verify(%q) = %+v, want %+v", o.token, o.id, *r.Identity)
		}
	}
	a.wantAsked(t, 3) // first, not/plain, later
}

// TestAuthWithoutBatches has an Auth that answers a batch in ways in which no
// Auth of today does.
func TestAuthWithoutBatches(t *testing.T) {
	status := func(code int, body string) func(http.ResponseWriter, *http.Request, []string) {
		return func(w http.ResponseWriter, _ *http.Request, _ []string) { w.WriteHeader(code); fmt.Fprint(w, body) }
	}
	tests := map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, tokens []string)
		again  bool // the next batch is tried
		want   error
	}{
		"not found":            {status(404, "404 page not found"), false, nil},
		"no such route":        {status(403, `{"message":"Missing Authentication Token"}`), false, nil},
		"method not allowed":   {status(405, ""), false, nil},
		"bad request":          {status(400, `{"code":"unknown_field"}`), true, nil},
		"too large":            {status(413, `{"code":"body_too_large"}`), true, nil},
		"a panic":              {status(500, `{"code":"internal"}`), true, nil},
		"too few results":      {status(200, `{"results":[]}`), true, nil},
		"no JSON":              {status(200, `<html>`), true, nil},
		"an identity":          {status(200, `{"user":"42"}`), true, nil},
		"away":                 {status(503, `{"code":"unavailable"}`), true, ErrUnavailable},
		"a balancer's 502":     {status(502, `<html>`), true, ErrUnavailable},
		"a signature of ours":  {status(401, `{"code":"signature_stale"}`), true, ErrUnavailable},
		"a token's 401 of all": {status(401, `{"code":"token_invalid"}`), true, ErrUnavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAuth(t)
			v, _ := newVerifier(t, Config{Parallel: 1}, a)
			a.setBatch(tt.answer)
			for round, batches := range []int{1, 2} {
				if round == 1 && !tt.again {
					batches = 1
				}
				first, release := busy(t, a, v, fmt.Sprint("first", round))
				out := verifyAll(t, v, names(fmt.Sprint("u", round, "."), 10)...)
				waitOpen(t, v, 11)
				release()
				wantGood(t, first, 1)
				for range 10 {
					if o := <-out; !errors.Is(o.err, tt.want) || (o.err == nil) != (tt.want == nil) {
						t.Errorf("Verify(%q) = %v, want %v", o.token, o.err, tt.want)
					}
				}
				if n := len(a.sizes()); n != batches {
					t.Errorf("after round %d there were %d batches, want %d", round, n, batches)
				}
			}
		})
	}
}

// TestDeadlineInABatch has questions wait behind a request that takes too long:
// each fails when its own time is over, whatever the request does.
func TestDeadlineInABatch(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{Deadline: time.Second, Parallel: 1}, a)
	hold := make(chan struct{})
	defer close(hold)
	a.set(func(http.ResponseWriter, *http.Request) { <-hold })
	a.setBatch(func(http.ResponseWriter, *http.Request, []string) { <-hold })
	begin := time.Now()
	out := verifyAll(t, v, names("u", 20)...)
	for range 20 {
		if o := <-out; !errors.Is(o.err, ErrUnavailable) {
			t.Errorf("Verify(%q) = %v, want ErrUnavailable", o.token, o.err)
		}
	}
	if took := time.Since(begin); took < time.Second || took > 10*time.Second {
		t.Errorf("it took %s, want 1 s, and not a second for each", took)
	}
}

// TestEvictWhileABatchIsUnderWay does for many what TestEvictWhileAsking does
// for one.
func TestEvictWhileABatchIsUnderWay(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{}, a)
	first, release := busy(t, a, v, "first")
	hold := make(chan struct{})
	a.setBatch(func(w http.ResponseWriter, r *http.Request, tokens []string) {
		<-hold
		a.setBatch(nil)
		var all push.VerifyBatchAnswer
		for _, token := range tokens {
			id := identityOf(token)
			all.Results = append(all.Results, push.VerifyResult{Identity: &id})
		}
		serve.JSON(w, 200, all)
	})
	before := verifyAll(t, v, "u1", "u2")
	<-a.arrived
	v.Evict("u1")
	close(hold)
	wantGood(t, before, 2)
	release()
	wantGood(t, first, 1)
	asked := len(a.sizes()) + int(a.asked.Load())
	want(t, v, "u1", "u1", nil)
	if now := len(a.sizes()) + int(a.asked.Load()); now != asked+1 {
		t.Error("an answer from before the eviction was kept")
	}
}

// BenchmarkVerifyFresh asks a real Auth's stand-in over a real port about tokens
// that are all new, 256 at a time.
func BenchmarkVerifyFresh(b *testing.B) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+verifyPath, func(w http.ResponseWriter, r *http.Request) {
		serve.JSON(w, 200, push.Identity{User: "42"})
	})
	mux.HandleFunc("POST "+verifyPath+"/batch", func(w http.ResponseWriter, r *http.Request) {
		var req push.VerifyBatchRequest
		if p := serve.Decode(w, r, 1<<20, &req); p != nil {
			serve.Problem(w, r, p)
			return
		}
		results := strings.Repeat(`{"identity":{"user":"42"}},`, len(req.Tokens))
		fmt.Fprint(w, `{"results":[`+results[:len(results)-1]+`]}`)
	})
	benchmarkFresh(b, mux)
}

func benchmarkFresh(b *testing.B, h http.Handler) {
	srv := httptest.NewServer(h)
	defer srv.Close()
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer c.CloseIdleConnections()
	v, err := New(Config{}, srv.URL, c, func() time.Time { return moment }, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Wait()
	var next atomic.Int64
	b.SetParallelism(128)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Verify(b.Context(), fmt.Sprintf("token%0250d", next.Add(1))); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestTakingTurns has tokens that go alone take every request for long, and more
// of them wait than can ever be asked: those that go together get on.
func TestTakingTurns(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{Parallel: 2}, a)
	step := make(chan struct{})
	a.set(func(w http.ResponseWriter, _ *http.Request) { <-step; serve.JSON(w, 200, push.Identity{User: "1"}) })
	alone := verifyAll(t, v, names(" ", 50)...) // not plain: each goes by itself
	waitOpen(t, v, 50)
	<-a.arrived
	<-a.arrived
	together := verifyAll(t, v, names("good", 20)...)
	waitOpen(t, v, 70)
	step <- struct{}{} // one request is free, of which the next may be alone
	step <- struct{}{}
	for range 20 {
		if o := <-together; o.err != nil {
			t.Error(o.err)
		}
	}
	if left := 50 - len(alone); left < 40 {
		t.Errorf("%d that go alone are left, want nearly all", left)
	}
	close(step)
	for range 50 {
		if o := <-alone; o.err != nil {
			t.Error(o.err)
		}
	}
}
