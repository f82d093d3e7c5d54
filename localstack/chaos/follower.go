package chaos

import (
	"sync"
	"time"
)

// A receipt is the first arrival of a message at a client.
type receipt struct {
	offset uint64
	conn   uint32
	life   int
	at     time.Time
}

// A follower is what one client knows of one channel.
type follower struct {
	channel, client string
	ledger          *ledger

	mu    sync.Mutex // guards what follows
	since time.Time  // owed is what was posted after it; zero: everything
	away  []absence
	got   map[uint32]receipt

	life     int    // a page reload begins a new one
	position uint64 // this life has, or was told to have, everything up to here
	conn     uint32
	last     uint64 // the newest offset on conn

	repeated, moved, replayed, reordered int
}

// An absence is a time in which the client had no connection, by its own will.
type absence struct{ from, to time.Time }

// entitled reports whether the client is owed m, which addresses the channel:
// it was there, or came before m expired. f.mu is held.
func (f *follower) entitled(m *message) bool {
	if !m.posted.After(f.since) {
		return false
	}
	if m.expires.IsZero() {
		return true
	}
	for _, a := range f.away {
		// It may have been on its way when the client left.
		if !m.accepted.Before(a.from.Add(-time.Second)) && (a.to.IsZero() || m.expires.Before(a.to)) {
			return false
		}
	}
	return true
}

// starts notes that the client follows the channel from now on, where it was
// not before.
func (f *follower) starts() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since.IsZero() {
		f.since = time.Now()
	}
}

// told notes that the node confirmed the position from which it goes on.
func (f *follower) told(offset uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.position = max(f.position, offset)
}

// reload begins a new life without a position; cursor is what was recorded for
// the client's device.
func (f *follower) reload(cursor uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life++
	f.position = cursor
}

// left and came bound an absence.
func (f *follower) left() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = append(f.away, absence{from: time.Now()})
}

func (f *follower) came() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.away); n > 0 && f.away[n-1].to.IsZero() {
		f.away[n-1].to = time.Now()
	}
}

// take writes down that message n arrived at an offset on a connection.
func (f *follower) take(n uint32, offset uint64, conn uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	first, had := f.got[n]
	if conn != f.conn {
		f.conn, f.last = conn, 0
	}
	switch {
	case had && (offset <= f.last || offset <= f.position):
		f.repeated++
		f.ledger.note("repeated: message %d of %s for %s at %d on connection %d, last there %d, position %d; first at %d on connection %d",
			n, f.channel, f.client, offset, conn, f.last, f.position, first.offset, first.conn)
	case offset <= f.last || offset <= f.position:
		f.reordered++
		f.ledger.note("reordered: message %d of %s for %s at %d on connection %d, last there %d, position %d",
			n, f.channel, f.client, offset, conn, f.last, f.position)
	case had && first.life == f.life:
		f.moved++
		f.ledger.note("moved: message %d of %s for %s at %d on connection %d; first at %d on connection %d",
			n, f.channel, f.client, offset, conn, first.offset, first.conn)
	case had:
		f.replayed++
	}
	if !had {
		f.got[n] = receipt{offset: offset, conn: conn, life: f.life, at: now}
	} else if first.life != f.life {
		first.life = f.life
		f.got[n] = first
	}
	f.last = max(f.last, offset)
	f.position = max(f.position, offset)
}
