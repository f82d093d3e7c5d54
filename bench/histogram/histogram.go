// Package histogram counts durations in buckets that are narrow everywhere, so
// that a far percentile is as good as the median.
package histogram

import (
	"math/bits"
	"time"
)

// steps is how many buckets each power of two has: what a histogram answers is
// too large by at most one part in steps.
const (
	stepBits = 6
	steps    = 1 << stepBits
	buckets  = (64 - stepBits + 1) * steps
)

// A Histogram counts durations. Its zero value is empty. It is 30 KiB large and
// may not be used by several goroutines at once.
type Histogram struct {
	counts [buckets]int64
	total  int64
	most   time.Duration
}

// Add counts d; what is negative counts as zero.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))]++
	h.total++
	h.most = max(h.most, d)
}

// Merge adds what o holds.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.most = max(h.most, o.most)
}

// Total returns how many durations were counted.
func (h *Histogram) Total() int64 { return h.total }

// Quantile returns a duration that the part q (0 to 1) of what was counted does
// not exceed; 0 if nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := max(1, int64(q*float64(h.total)+0.5))
	var seen int64
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return min(time.Duration(upperOf(i)), h.most)
		}
	}
	return h.most
}

// bucketOf returns the bucket of v: exact below 2*steps, then steps buckets for
// each power of two.
func bucketOf(v uint64) int {
	if v < steps {
		return int(v)
	}
	shift := bits.Len64(v) - stepBits - 1
	return (shift+1)*steps + int(v>>shift) - steps
}

// upperOf returns the largest value of bucket i.
func upperOf(i int) uint64 {
	if i < steps {
		return uint64(i)
	}
	shift := i/steps - 1
	return (uint64(i%steps)+steps+1)<<shift - 1
}
