package push

import "time"

// An Offset is a message's place in one channel. It is made from Redis' clock,
// grows strictly within a channel, has gaps, and stays below 2^53 (so that a
// JavaScript number holds it) until the year 2109. Zero means "none": before
// every message.
type Offset uint64

// OffsetsPerMilli is how many offsets one millisecond of Redis' clock holds.
const OffsetsPerMilli = 2048

// OffsetAt returns the first offset of t's millisecond.
func OffsetAt(t time.Time) Offset { return Offset(t.UnixMilli()) * OffsetsPerMilli }

// OffsetSpan returns how many offsets d of Redis' clock holds, in whole milliseconds.
func OffsetSpan(d time.Duration) Offset { return Offset(d.Milliseconds()) * OffsetsPerMilli }

// Time returns the millisecond of Redis' clock that o was made in. Behind a
// term's floor it may lie ahead of the clock.
func (o Offset) Time() time.Time { return time.UnixMilli(int64(o / OffsetsPerMilli)) }

// An Entry is one message at its place in one channel.
type Entry struct {
	Channel Channel
	Offset  Offset
	// Prev is the offset of the entry before it in the channel's log; zero for
	// the first of a log in a term, before which anything may lie.
	Prev Offset
	// Message is shared by all entries of a message; its To is empty. Its Data
	// is empty where only the store holds it.
	Message *Message
}

// A Term is one continuous life of a Redis' memory. Offsets of a term are above
// its floor and below its ceiling; the next term's floor is the last one's
// ceiling, so offsets never go back, whatever Redis lost.
type Term struct {
	Number  int64  // counts up from 1; 0: no term was ever started
	Marker  string // what Redis holds while the term lasts
	RunID   string // the run id of the Redis primary (of a Cluster: of all of them)
	Floor   Offset
	Ceiling Offset // kept ahead of Redis' clock; nothing at or above it is pushed
}
