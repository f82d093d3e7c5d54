package chaos

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// heldUp is how late a delivery is that a fault is said to have held up.
const heldUp = 250 * time.Millisecond

// maxNotes bounds the oddities that a ledger describes in words.
const maxNotes = 20

// A message is one that was posted to Collect. Its number is its place in the
// ledger.
type message struct {
	channels []string
	posted   time.Time // first try
	accepted time.Time // first answer 2xx; zero if there was none
	expires  time.Time
	collapse string
}

// A ledger keeps what was accepted and what was received.
type ledger struct {
	mu        sync.Mutex // guards what follows; taken before a follower's mu
	messages  []*message
	accepted  int
	channels  map[string][]uint32 // accepted messages
	followers map[string][]*follower
	faults    []fault
	open      int // faults that have begun and not ended

	noteMu sync.Mutex
	notes  []string
	ends   []string
}

// A fault is one harm done, from its beginning to its end.
type fault struct {
	what       string
	begin, end time.Time
}

func newLedger() *ledger {
	return &ledger{channels: make(map[string][]uint32), followers: make(map[string][]*follower)}
}

// begin writes down a message that is about to be posted for the first time
// and returns its number.
func (l *ledger) begin(m *message) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.posted = time.Now()
	l.messages = append(l.messages, m)
	return uint32(len(l.messages) - 1)
}

// accept writes down that message n was answered 2xx. Saying it again changes
// nothing.
func (l *ledger) accept(n uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.messages[n]
	if !m.accepted.IsZero() {
		return
	}
	m.accepted = time.Now()
	l.accepted++
	for _, c := range m.channels {
		l.channels[c] = append(l.channels[c], n)
	}
}

// follow adds a client's follower of a channel.
func (l *ledger) follow(channel, client string) *follower {
	f := &follower{channel: channel, client: client, ledger: l, got: make(map[uint32]receipt)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followers[channel] = append(l.followers[channel], f)
	return f
}

// note describes an oddity, for whoever has to explain a red row.
func (l *ledger) note(format string, args ...any) {
	l.noteMu.Lock()
	defer l.noteMu.Unlock()
	if len(l.notes) < maxNotes {
		l.notes = append(l.notes, fmt.Sprintf(format, args...))
	}
}

// ended describes the end of a connection, for the first few.
func (l *ledger) ended(client string, home int, code uint32, reason string) {
	l.mu.Lock()
	at := l.clock(time.Now())
	l.mu.Unlock()
	l.noteMu.Lock()
	defer l.noteMu.Unlock()
	if len(l.ends) < 5 {
		l.ends = append(l.ends, fmt.Sprintf("ended: %s of node%d at %s: %d %s", client, home+1, at, code, reason))
	}
}

// fault notes that harm begins, and returns what ends it.
func (l *ledger) fault(what string) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(l.faults)
	l.faults = append(l.faults, fault{what: what, begin: time.Now()})
	l.open++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.faults[i].end = time.Now()
		l.open--
	})
}

// owed calls visit for every delivery that is owed. l.mu is held.
func (l *ledger) owed(visit func(f *follower, n uint32, m *message)) {
	for channel, list := range l.channels {
		newest := make(map[string]time.Time) // by collapse key: when the newest was posted
		for _, n := range list {
			if m := l.messages[n]; m.collapse != "" && m.posted.After(newest[m.collapse]) {
				newest[m.collapse] = m.posted
			}
		}
		for _, f := range l.followers[channel] {
			f.mu.Lock()
			for _, n := range list {
				m := l.messages[n]
				if m.collapse != "" && m.posted.Before(newest[m.collapse]) || !f.entitled(m) {
					continue
				}
				visit(f, n, m)
			}
			f.mu.Unlock()
		}
	}
}

// missing returns how many deliveries are owed that have not come.
func (l *ledger) missing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	missing := 0
	l.owed(func(f *follower, n uint32, _ *message) {
		if _, ok := f.got[n]; !ok {
			missing++
		}
	})
	return missing
}

// A tally is what a ledger comes to.
type tally struct {
	accepted, expected, received, lost   int
	repeated, moved, replayed, reordered int
	healP50, healMax                     time.Duration
}

// tally compares both ends.
func (l *ledger) tally() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := tally{accepted: l.accepted}
	var heals []time.Duration
	l.owed(func(f *follower, n uint32, m *message) {
		t.expected++
		r, ok := f.got[n]
		if !ok {
			t.lost++
			l.note("lost: message %d of %s for %s, accepted at %s, posted at %s", n, f.channel, f.client, l.clock(m.accepted), l.clock(m.posted))
			return
		}
		t.received++
		if heal, ok := l.healed(m, r.at); ok {
			heals = append(heals, heal)
		}
	})
	for _, list := range l.followers {
		for _, f := range list {
			f.mu.Lock()
			t.repeated += f.repeated
			t.moved += f.moved
			t.replayed += f.replayed
			t.reordered += f.reordered
			f.mu.Unlock()
		}
	}
	if len(heals) > 0 {
		slices.Sort(heals)
		t.healP50, t.healMax = heals[len(heals)/2], heals[len(heals)-1]
	}
	return t
}

// healed returns how long after the end of the last fault, or after its
// acceptance, a message was received; ok is false if it was not held up, or
// arrived while the fault lasted. l.mu is held.
func (l *ledger) healed(m *message, at time.Time) (heal time.Duration, ok bool) {
	if at.Sub(m.accepted) < heldUp {
		return 0, false
	}
	var since time.Time
	for _, f := range l.faults {
		if !f.end.IsZero() && f.end.Before(at) && f.end.After(since) {
			since = f.end
		}
	}
	if since.IsZero() {
		return 0, false
	}
	if m.accepted.After(since) {
		since = m.accepted
	}
	return at.Sub(since), true
}

// clock tells a time as seconds since the first message. l.mu is held.
func (l *ledger) clock(t time.Time) string {
	if len(l.messages) == 0 || t.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%.3fs", t.Sub(l.messages[0].posted).Seconds())
}

// summary returns the notes, and when each fault began and ended.
func (l *ledger) summary() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteMu.Lock()
	defer l.noteMu.Unlock()
	var lines []string
	for _, f := range l.faults {
		lines = append(lines, fmt.Sprintf("fault: %s, from %s to %s", f.what, l.clock(f.begin), l.clock(f.end)))
	}
	return slices.Concat(lines, l.notes, l.ends)
}
