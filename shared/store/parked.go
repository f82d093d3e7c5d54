package store

import (
	"context"
	"time"

	"pushcluster/shared/push"
)

// An OutboxState is where an entry of the outbox stands. A confirmed entry is
// gone.
type OutboxState int

// The states of an outbox entry.
const (
	Waiting   OutboxState = iota // to be claimed when it is due
	Parked                       // failed for good; nobody claims it until it is replayed
	Cancelled                    // will never be claimed; kept so that a repeat does not put it in again
)

// An OutboxRecord is an entry of the outbox and where it stands. Of an entry
// that does not wait, DueAt is not known.
type OutboxRecord struct {
	OutboxEntry
	State     OutboxState
	ChangedAt time.Time // when it was parked or cancelled; zero while it waits
}

// Parking keeps what could not be delivered until somebody decides.
type Parking interface {
	// ParkOutbox takes those entries out of the outbox's queue that wait there,
	// claimed or not, with their Attempts and Reason. Those that do not wait are
	// left as they are.
	ParkOutbox(ctx context.Context, entries []ParkedEntry) error
	// ListParked returns what is parked, by the time it was parked and then by
	// message.
	ListParked(ctx context.Context, q ParkedQuery) ([]ParkedEntry, error)
	// ReplayParked has the parked entry of id wait again, due at the given time
	// and as if it had been tried once, and reports whether there was one. An
	// ordered entry gets a new Sequence: others have passed it meanwhile.
	ReplayParked(ctx context.Context, id push.MessageID, due time.Time) (bool, error)
	// DiscardParked cancels the parked entry of id at the given time and reports
	// whether there was one.
	DiscardParked(ctx context.Context, id push.MessageID, at time.Time) (bool, error)
}

// A ParkedEntry is a message that could not be delivered.
type ParkedEntry struct {
	Message  push.MessageID
	Attempts int
	Reason   string // nothing secret
	At       time.Time
	Until    time.Time // when it may be forgotten
}

// A ParkedQuery asks for parked entries behind (AfterAt, AfterMessage) in the
// order of both; the zero query asks for the first ones.
type ParkedQuery struct {
	AfterAt      time.Time
	AfterMessage push.MessageID
	Limit        int // 0 means 1,000
}

// DefaultParked is the limit of a [ParkedQuery] that names none.
const DefaultParked = 1000
