package chaos

import (
	"cmp"
	"slices"
	"time"
)

// overtakings returns how many messages stand in a channel before one that was
// accepted before they were posted: whoever posted both, or waited for the first
// to be answered, posted them in another order.
func (l *ledger) overtakings() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := 0
	for channel, followers := range l.followers {
		count += l.overtakingsIn(channel, followers)
	}
	return count
}

// overtakingsIn is overtakings for one channel. l.mu is held.
func (l *ledger) overtakingsIn(channel string, followers []*follower) int {
	offsets := make(map[uint32]uint64)
	for _, f := range followers {
		f.mu.Lock()
		for n, r := range f.got {
			offsets[n] = r.offset
		}
		f.mu.Unlock()
	}
	var order []uint32
	for n := range offsets {
		if !l.messages[n].accepted.IsZero() {
			order = append(order, n)
		}
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(offsets[a], offsets[b]) })
	count := 0
	var latest time.Time // when the last of those before was posted
	var by uint32        // which one that is
	for _, n := range order {
		m := l.messages[n]
		if m.accepted.Before(latest) {
			count++
			l.note("overtaken: message %d of %s, accepted at %s, stands at %d, and message %d, posted at %s, at %d",
				n, channel, l.clock(m.accepted), offsets[n], by, l.clock(latest), offsets[by])
		}
		if m.posted.After(latest) {
			latest, by = m.posted, n
		}
	}
	return count
}
