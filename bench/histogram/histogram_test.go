package histogram

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tests := map[string]func() time.Duration{
		"one value":    func() time.Duration { return 137 * time.Microsecond },
		"small":        func() time.Duration { return time.Duration(r.IntN(300)) },
		"milliseconds": func() time.Duration { return time.Duration(r.Int64N(int64(30 * time.Millisecond))) },
		"long tail":    func() time.Duration { return time.Duration(r.ExpFloat64() * float64(time.Second)) },
	}
	for name, draw := range tests {
		t.Run(name, func(t *testing.T) {
			var h, half Histogram
			var all []time.Duration
			for i := range 20_000 {
				d := draw()
				all = append(all, d)
				if i%2 == 0 {
					h.Add(d)
				} else {
					half.Add(d)
				}
			}
			h.Merge(&half)
			slices.Sort(all)
			for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 0.999, 1} {
				want := all[max(0, int(q*float64(len(all))+0.5)-1)]
				got := h.Quantile(q)
				if got < want || float64(got) > float64(want)*(1+2.0/steps)+1 {
					t.Errorf("Quantile(%v) = %v, want %v or a little more", q, got, want)
				}
			}
		})
	}
}

func TestBuckets(t *testing.T) {
	for i := range buckets - 1 {
		if got := bucketOf(upperOf(i)); got != i {
			t.Fatalf("the largest value of bucket %d, %d, is in bucket %d", i, upperOf(i), got)
		}
		if got := bucketOf(upperOf(i) + 1); got != i+1 {
			t.Fatalf("the value behind bucket %d, %d, is in bucket %d", i, upperOf(i)+1, got)
		}
	}
	if got := bucketOf(1<<64 - 1); got != buckets-1 {
		t.Errorf("the largest value is in bucket %d, want the last, %d", got, buckets-1)
	}
}

func TestEmpty(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.99); got != 0 || h.Total() != 0 {
		t.Errorf("an empty histogram answers %v of %d", got, h.Total())
	}
}
