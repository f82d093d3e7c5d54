package dispatchfn

import (
	"slices"
	"sync"
	"time"
)

// The bounds of what waits for a batch: about what Dispatch does in a second of
// work, and what it may hold in memory. What comes beyond them is refused.
const (
	waitingCalls = 4096
	waitingBytes = 64 << 20
)

// gathering is where calls wait for the batch that they go with, by when they
// came.
type gathering struct {
	// Fixed by newGathering.
	places int           // of a batch, at most
	fresh  time.Duration // what waited longer may have been dispatched by another since
	most   time.Duration // what waited longer is not dispatched

	mu        sync.Mutex // guards what follows
	waiting   []*call
	bytes     int  // of waiting
	led       bool // somebody is about to take what waits
	appending int  // batches that have not taken their places yet
	since     time.Time
}

// newGathering returns where calls wait, for most at most.
func newGathering(places int, fresh, most time.Duration) *gathering {
	return &gathering{places: min(gatherPlaces, places), fresh: fresh, most: most}
}

// add has c wait, and reports whether the caller is to lead. It reports false
// for ok if too much waits; c does not then.
func (g *gathering) add(c *call) (lead, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) >= waitingCalls || g.bytes+c.bytes > waitingBytes {
		return false, false
	}
	g.waiting = append(g.waiting, c)
	g.bytes += c.bytes
	if g.led || g.appending > 0 && (g.appending >= gatherAtOnce || c.began.Sub(g.since) < gatherShare) {
		return false, true
	}
	g.led = true
	return true, true
}

// leave has c wait no longer, and reports false if it is in a batch already, or
// was answered.
func (g *gathering) leave(c *call) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := slices.Index(g.waiting, c)
	if n < 0 {
		return false
	}
	g.waiting = slices.Delete(g.waiting, n, n+1)
	g.bytes -= c.bytes
	return true
}

// oldest returns when the call came that has waited longest. If none waits, the
// caller does not lead any more.
func (g *gathering) oldest() (began time.Time, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.led = false
		return time.Time{}, false
	}
	return g.waiting[0].began, true
}

// tooLate removes the calls that have waited too long, and returns them.
func (g *gathering) tooLate(now time.Time) []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pastMost(now)
}

// pastMost is tooLate with mu held.
func (g *gathering) pastMost(now time.Time) []*call {
	n := 0
	for n < len(g.waiting) && now.Sub(g.waiting[n].began) >= g.most {
		n++
	}
	return g.pop(n)
}

// pop removes the first n calls, and returns them. mu is held.
func (g *gathering) pop(n int) []*call {
	calls := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	for _, c := range calls {
		g.bytes -= c.bytes
	}
	return calls
}

// take returns the calls that go together now, and counts them, if there are
// any, as being appended. again says that each of them has waited for so long
// that it may have been dispatched meanwhile. What waited too long is returned
// apart. The caller led, and does not any more.
func (g *gathering) take(now time.Time) (calls []*call, again bool, late []*call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	late = g.pastMost(now)
	n, places, bytes := 0, 0, 0
	for n < len(g.waiting) && n < gatherCalls {
		c := g.waiting[n]
		stale := now.Sub(c.began) > g.fresh
		if n == 0 {
			again = stale
		} else if stale != again || places+c.places > g.places || bytes+c.bytes > gatherBytes {
			break // what may come again asks the inbox, for which nothing new is to wait
		} else if c.began.Sub(g.waiting[0].began) > g.fresh {
			break // the batch ends with its oldest, which may be soon
		}
		places, bytes = places+c.places, bytes+c.bytes
		n++
	}
	g.led = false
	if n > 0 {
		g.appending++
		g.since = now
	}
	return g.pop(n), again, late
}

// appended says that a batch has taken its places, or never will, and reports
// whether somebody is to lead what came meanwhile.
func (g *gathering) appended() (lead bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.appending--
	if len(g.waiting) == 0 {
		g.waiting = nil // what was taken is not held on to
		return false
	}
	if g.led {
		return false
	}
	g.led = true
	return true
}
