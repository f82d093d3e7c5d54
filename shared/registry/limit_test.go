package registry

import (
	"context"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/registry/registrytest"
)

func newLimiter(t *testing.T, s *registrytest.Server, timeout time.Duration) *Limiter {
	t.Helper()
	l, err := OpenLimiter(s.URL(), LimiterConfig{Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestLimiterKeys looks at what a limit leaves in Redis, and at a key that says
// what it cannot say.
func TestLimiterKeys(t *testing.T) {
	for name, s := range map[string]*registrytest.Server{"redis": registrytest.Redis(t), "miniredis": registrytest.Mini(t)} {
		t.Run(name, func(t *testing.T) {
			l := newLimiter(t, s, 15*time.Second) // the machine may be busy with other tests
			rates := []Rate{{Count: 10, Per: time.Hour, Burst: 2}, {Count: 10, Per: 24 * time.Hour, Burst: 10}}
			take := func() Verdict {
				t.Helper()
				v, err := l.Take(t.Context(), "a", rates)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			take()
			keys, err := l.rdb.Keys(t.Context(), "*").Result()
			if err != nil || len(keys) != 2 || !strings.Contains(strings.Join(keys, " "), "push:limit:{a}:0") {
				t.Errorf("the keys are %v, %v, want one for each limit", keys, err)
			}
			// It goes when it says nothing any more.
			for key, most := range map[string]time.Duration{"push:limit:{a}:0": 6*time.Minute + time.Second, "push:limit:{a}:1": 144*time.Minute + time.Second} {
				if ttl := l.rdb.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > most {
					t.Errorf("%s lives %s, want %s at most", key, ttl, most)
				}
			}
			// A clock that ran ahead wrote it, or a limit of another size.
			l.rdb.Set(t.Context(), "push:limit:{a}:0", "9007199254740991", 0)
			if v := take(); v.Passes || v.Left[0].Next > 6*time.Minute {
				t.Errorf("the verdict is %+v, want a wait of one interval", v)
			}
			if v := take(); v.Left[1].Requests != 9 {
				t.Errorf("the second limit has %d left, want 9: what the first refused does not count", v.Left[1].Requests)
			}
			l.rdb.FlushAll(t.Context())
			if v := take(); !v.Passes || v.Left[0].Requests != 1 {
				t.Errorf("the verdict is %+v of an empty Redis", v)
			}
		})
	}
}

// TestLimiterAway fails in time where Redis does not answer.
func TestLimiterAway(t *testing.T) {
	s := registrytest.Redis(t)
	l := newLimiter(t, s, 0)
	s.Kill()
	began := time.Now()
	if _, err := l.Take(t.Context(), "a", []Rate{{Count: 1, Per: time.Second, Burst: 1}}); err == nil {
		t.Error("Take = nil error without Redis")
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s, want some 250 ms", took)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Take(ended, "a", []Rate{{Count: 1, Per: time.Second, Burst: 1}}); err == nil {
		t.Error("Take = nil error after its context has ended")
	}
	if _, err := OpenLimiter("http://h", LimiterConfig{}); err == nil {
		t.Error("OpenLimiter takes a URL that is not Redis'")
	}
}

// FuzzVerdict reads what Redis may answer.
func FuzzVerdict(f *testing.F) {
	f.Add("1 2 3 4", 1)
	f.Add("0 0 1000000 1 9 9 9", 2)
	f.Add("1 -1 x", 1)
	f.Fuzz(func(t *testing.T, reply string, limits int) {
		limits &= 7
		v, err := decodeVerdict(strings.Fields(reply), limits)
		if err != nil {
			return
		}
		if len(v.Left) != limits {
			t.Fatalf("%q: %d limits, want %d", reply, len(v.Left), limits)
		}
		for _, left := range v.Left {
			if left.Requests < 0 || left.Full < 0 || left.Next < 0 {
				t.Fatalf("%q: %+v", reply, left)
			}
		}
	})
}
