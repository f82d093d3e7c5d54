package garbage

import "time"

// A judge decides from what the runtime knows. Its methods are called by one
// goroutine.
type judge struct {
	cfg      Config
	percent  int // that is in force
	busy     bool
	since    time.Time // when it last looked
	seen     uint64    // bytes that were allocated by then
	returned time.Time // when memory was last given back; zero: never
}

// An order is what is to be done.
type order struct {
	percent  int   // to be in force from now on; 0: as it is
	room     int64 // that it gives beyond Go's rule
	watch    bool  // look from now on
	giveBack bool  // give memory back, and look no more
}

// begin takes what the runtime knows at the beginning.
func (j *judge) begin(now time.Time, s state) { j.since, j.seen = now, s.allocated }

// rate returns how many bytes a second were allocated since the last look, which
// is now from now on.
func (j *judge) rate(now time.Time, s state) float64 {
	took := max(now.Sub(j.since), time.Microsecond)
	rate := float64(s.allocated-j.seen) / took.Seconds()
	j.since, j.seen = now, s.allocated
	return rate
}

// enough is how many bytes a second make a process busy.
func (j *judge) enough(s state) float64 { return float64(j.cfg.Busy) + float64(s.alive)/10 }

// collected takes what is known after a collection.
func (j *judge) collected(now time.Time, s state) order {
	if j.busy {
		return j.roomFor(s) // what is alive has changed
	}
	some := s.allocated-j.seen >= uint64(j.cfg.Busy)/4 // else the time may be too short to tell a rate
	if j.rate(now, s) < j.enough(s) || !some {
		return order{}
	}
	j.busy = true
	o := j.roomFor(s)
	o.watch = true
	return o
}

// look takes what is known a while after the last look, in a busy process.
func (j *judge) look(now time.Time, s state) order {
	if !j.busy || j.rate(now, s) >= j.enough(s)/2 || !j.returned.IsZero() && now.Sub(j.returned) < j.cfg.Apart {
		return order{}
	}
	j.busy, j.returned, j.percent = false, now, goPercent
	return order{percent: goPercent, giveBack: true}
}

// roomFor returns the order by which as much garbage gathers as the room holds,
// or as is alive if that is more. A percentage that is nearly in force stays so:
// to change it stops the process for a moment.
func (j *judge) roomFor(s state) order {
	base := float64(max(s.alive+s.roots, 1))
	percent := max(goPercent, int(float64(j.cfg.Room)/base*100))
	if diff := percent - j.percent; diff*8 < j.percent && -diff*8 < j.percent {
		return order{}
	}
	j.percent = percent
	return order{percent: percent, room: int64(base * float64(percent-goPercent) / 100)}
}
