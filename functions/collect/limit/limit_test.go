package limit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/functions/collect/limit"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// onEach runs a test on every judge that there is, which must judge alike.
func onEach(t *testing.T, f func(t *testing.T, taker limit.Taker)) {
	t.Helper()
	limiter := func(t *testing.T, s *registrytest.Server) limit.Taker {
		l, err := registry.OpenLimiter(s.URL(), registry.LimiterConfig{Timeout: 15 * time.Second, Connections: 4}) // the machine may be busy with other tests
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return limit.NewShared(l, nil)
	}
	t.Run("redis", func(t *testing.T) { f(t, limiter(t, registrytest.Redis(t))) })
	t.Run("miniredis", func(t *testing.T) { f(t, limiter(t, registrytest.Mini(t))) })
	t.Run("local", func(t *testing.T) { f(t, limit.NewLocal(nil)) })
}

func rate(t *testing.T, text string, burst int) registry.Rate {
	t.Helper()
	r, err := limit.ParseRate(text, burst)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// take judges one request.
func take(t *testing.T, taker limit.Taker, subject string, rates ...registry.Rate) registry.Verdict {
	t.Helper()
	v, err := taker.Take(t.Context(), subject, rates)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTake(t *testing.T) {
	onEach(t, func(t *testing.T, taker limit.Taker) {
		tests := map[string]struct {
			rates  []registry.Rate
			passes string // of requests in a row: + passes, - does not
			left   []int  // after them, of each limit
			next   []time.Duration
		}{
			"no limit":           {nil, "+++", nil, nil},
			"burst, then no":     {[]registry.Rate{rate(t, "10/h", 3)}, "+++--", []int{0}, []time.Duration{6 * time.Minute}},
			"as many as it says": {[]registry.Rate{rate(t, "4/d", 0)}, "++++-", []int{0}, []time.Duration{6 * time.Hour}},
			"one at a time":      {[]registry.Rate{rate(t, "60/h", 1)}, "+-", []int{0}, []time.Duration{time.Minute}},
			"some left":          {[]registry.Rate{rate(t, "10/h", 3)}, "+", []int{2}, []time.Duration{0}},
			"the smaller counts": {[]registry.Rate{rate(t, "100/h", 0), rate(t, "10/d", 2)}, "++---", []int{98, 0}, []time.Duration{0, 144 * time.Minute}},
		}
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				got := ""
				var v registry.Verdict
				for range tt.passes {
					if v = take(t, taker, name, tt.rates...); v.Passes {
						got += "+"
					} else {
						got += "-"
					}
				}
				if got != tt.passes {
					t.Errorf("requests %s, want %s", got, tt.passes)
				}
				for i, left := range v.Left {
					if left.Requests != tt.left[i] {
						t.Errorf("limit %d has %d left, want %d", i, left.Requests, tt.left[i])
					}
					if off := tt.next[i] - left.Next; off < 0 || off > 20*time.Second {
						t.Errorf("limit %d lets one pass in %s, want %s", i, left.Next, tt.next[i])
					}
				}
			})
		}
	})
}

// TestTakeApart counts each subject by itself, and a limit that is made smaller
// from what it is now.
func TestTakeApart(t *testing.T) {
	onEach(t, func(t *testing.T, taker limit.Taker) {
		hourly := rate(t, "1/h", 1)
		for _, subject := range []string{"a", "b"} {
			if v := take(t, taker, subject, hourly); !v.Passes {
				t.Errorf("%s is refused the first time: %+v", subject, v)
			}
		}
		if v := take(t, taker, "a", hourly); v.Passes {
			t.Error("a passes twice")
		}
		if v := take(t, taker, "a", rate(t, "60/h", 1)); v.Passes || v.Left[0].Next > time.Minute {
			t.Errorf("with a shorter interval a has to wait %+v, want a minute at most", v.Left)
		}
	})
}

// TestTakeAgain passes again once the interval is over.
func TestTakeAgain(t *testing.T) {
	onEach(t, func(t *testing.T, taker limit.Taker) {
		r := rate(t, "100/s", 1)
		passed := 0
		for end := time.Now().Add(time.Minute); passed < 5 && time.Now().Before(end); {
			if take(t, taker, "a", r).Passes {
				passed++
			}
		}
		if passed < 5 {
			t.Errorf("%d requests passed, want 5", passed)
		}
	})
}

// TestTakeTogether lets no more pass than the limit, whoever asks at the same
// time.
func TestTakeTogether(t *testing.T) {
	onEach(t, func(t *testing.T, taker limit.Taker) {
		r := rate(t, "20/d", 0)
		var mu sync.Mutex
		passed := 0
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 5 {
					v, err := taker.Take(t.Context(), "a", []registry.Rate{r})
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					if v.Passes {
						passed++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if passed != 20 {
			t.Errorf("%d requests passed, want 20", passed)
		}
	})
}

// TestLocalForgets holds few subjects, however many there were.
func TestLocalForgets(t *testing.T) {
	now := time.Now()
	l := limit.NewLocal(func() time.Time { return now })
	r := rate(t, "1/s", 1)
	for i := range 20_000 {
		now = now.Add(10 * time.Millisecond)
		l.Take(t.Context(), fmt.Sprint(i), []registry.Rate{r})
	}
	if held := l.Held(); held > 8192 {
		t.Errorf("%d subjects are held, want those of the last second and some", held)
	}
	if v, _ := l.Take(t.Context(), "19999", []registry.Rate{r}); v.Passes {
		t.Error("a subject was forgotten that counts")
	}
}

// A broken taker fails as long as it is told to.
type broken struct {
	err   error
	asked int
}

func (b *broken) Take(context.Context, string, []registry.Rate) (registry.Verdict, error) {
	b.asked++
	return registry.Verdict{Passes: b.err == nil}, b.err
}

// TestSharedPauses asks a Redis that is away once a second.
func TestSharedPauses(t *testing.T) {
	now := time.Now()
	taker := &broken{err: errors.New("away")}
	s := limit.NewShared(taker, func() time.Time { return now })
	for range 10 {
		if v, err := s.Take(t.Context(), "a", nil); !v.Passes || err == nil {
			t.Fatalf("Take = %+v, %v, want it to pass, unjudged", v, err)
		}
	}
	if taker.asked != 1 {
		t.Errorf("it was asked %d times within a second", taker.asked)
	}
	taker.err = nil
	if _, err := s.Take(t.Context(), "a", nil); !errors.Is(err, limit.ErrAway) {
		t.Errorf("Take = %v before the second is over, want ErrAway", err)
	}
	now = now.Add(time.Second)
	if _, err := s.Take(t.Context(), "a", nil); err != nil || taker.asked != 2 {
		t.Errorf("Take = %v after a second, asked %d times", err, taker.asked)
	}
	// A client that leaves does not make Redis count as away.
	left, cancel := context.WithCancel(t.Context())
	cancel()
	taker.err = context.Canceled
	s.Take(left, "a", nil)
	taker.err = nil
	if _, err := s.Take(t.Context(), "a", nil); err != nil {
		t.Errorf("Take = %v after a client has left", err)
	}
}

func TestParseRate(t *testing.T) {
	tests := map[string]struct {
		text  string
		burst int
		want  registry.Rate // zero: refused
	}{
		"a second":        {"100/s", 0, registry.Rate{Count: 100, Per: time.Second, Burst: 100}},
		"with burst":      {"100/s", 200, registry.Rate{Count: 100, Per: time.Second, Burst: 200}},
		"a minute":        {"6000/m", 0, registry.Rate{Count: 6000, Per: time.Minute, Burst: 6000}},
		"an hour":         {"1/h", 0, registry.Rate{Count: 1, Per: time.Hour, Burst: 1}},
		"a day":           {"1000000/d", 1, registry.Rate{Count: 1_000_000, Per: 24 * time.Hour, Burst: 1}},
		"most":            {"100000/s", 0, registry.Rate{Count: 100_000, Per: time.Second, Burst: 100_000}},
		"more than most":  {"100001/s", 0, registry.Rate{}},
		"none":            {"0/s", 0, registry.Rate{}},
		"less":            {"-1/s", 0, registry.Rate{}},
		"a week":          {"1/w", 0, registry.Rate{}},
		"no period":       {"100", 0, registry.Rate{}},
		"half":            {"0.5/s", 0, registry.Rate{}},
		"sign":            {"+1/s", 0, registry.Rate{}},
		"leading zero":    {"01/s", 0, registry.Rate{}},
		"space":           {"100 / s", 0, registry.Rate{}},
		"empty":           {"", 0, registry.Rate{}},
		"burst below one": {"1/s", -1, registry.Rate{}},
		"burst too large": {"1/s", 1_000_001, registry.Rate{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := limit.ParseRate(tt.text, tt.burst)
			if got != tt.want || (err == nil) != (tt.want != registry.Rate{}) {
				t.Errorf("ParseRate(%q, %d) = %+v, %v, want %+v", tt.text, tt.burst, got, err, tt.want)
			}
			if err == nil && limit.Text(got) != tt.text {
				t.Errorf("Text(%+v) = %q, want %q", got, limit.Text(got), tt.text)
			}
		})
	}
}

func TestParseKeys(t *testing.T) {
	k, err := limit.ParseKeys("shop:100/s:200, shop:100000/d,\n*:20/s")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(k.Of("shop")); got != "[{100 1s 200} {100000 24h0m0s 100000}]" {
		t.Errorf("shop has %s", got)
	}
	if got := fmt.Sprint(k.Of("crm")); got != "[{20 1s 20}]" {
		t.Errorf("others have %s", got)
	}
	if err := k.Check(func(name string) bool { return name == "shop" }); err != nil {
		t.Errorf("Check = %v", err)
	}
	if err := k.Check(func(string) bool { return false }); err == nil {
		t.Error("Check = nil for the name of no key")
	}
	if got := (limit.Keys{}).Of("shop"); got != nil {
		t.Errorf("no limits limit by %v", got)
	}
	for _, text := range []string{"shop", "shop:", ":1/s", "shop:1/s:0", "shop:1/s:x", "shop:1/s:2:3", "shop:1/y", "a:1/s,a:1/m,a:1/h,a:1/d,a:2/d"} {
		if _, err := limit.ParseKeys(text); err == nil {
			t.Errorf("ParseKeys(%q) = nil error", text)
		}
	}
}

func TestHeaders(t *testing.T) {
	rates := []registry.Rate{rate(t, "100/s", 200), rate(t, "1000/d", 0)}
	v := registry.Verdict{Left: []registry.Left{
		{Requests: 150, Full: 500 * time.Millisecond}, {Requests: 0, Full: 24 * time.Hour, Next: 86*time.Second + 400*time.Millisecond}}}
	policy, left := limit.Headers(rates, v)
	if want := `"100/s";q=200;w=2, "1000/d";q=1000;w=86400`; policy != want {
		t.Errorf("RateLimit-Policy: %s, want %s", policy, want)
	}
	if want := `"100/s";r=150;t=1, "1000/d";r=0;t=86400`; left != want {
		t.Errorf("RateLimit: %s, want %s", left, want)
	}
	if got := limit.RetryAfter(v); got != 87 {
		t.Errorf("Retry-After: %d, want 87", got)
	}
	if got := limit.RetryAfter(registry.Verdict{}); got != 1 {
		t.Errorf("Retry-After: %d, want 1", got)
	}
}

// FuzzParseKeys reads limits of an environment: whatever is taken can be judged.
func FuzzParseKeys(f *testing.F) {
	f.Add("shop:100/s:200,*:20/s")
	f.Add("a:1/d\nb:100000/s:1000000")
	f.Add("a:,:,::,")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := limit.ParseKeys(text)
		if err != nil {
			return
		}
		l := limit.NewLocal(nil)
		for _, name := range []string{"shop", "a", "b", "*"} {
			for _, r := range k.Of(name) {
				if r.Interval() < time.Microsecond || r.Room() < r.Interval() {
					t.Fatalf("ParseKeys(%q) has the rate %+v", text, r)
				}
			}
			if v, err := l.Take(t.Context(), name, k.Of(name)); err != nil || !v.Passes {
				t.Fatalf("ParseKeys(%q): the first request of %q is judged %+v, %v", text, name, v, err)
			}
		}
	})
}
