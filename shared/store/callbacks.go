package store

import (
	"context"
	"time"

	"pushcluster/shared/push"
)

// Callbacks keeps what the senders of messages want to be told of them: one
// entry for a message, from its acceptance until everything is told and the
// message is forgotten.
type Callbacks interface {
	// PutCallbacks writes entries durably; one whose message is there already, in
	// whatever state, is left as it is. Claim does not count.
	PutCallbacks(ctx context.Context, entries []Callback) error
	// ClaimCallbacks takes up to limit entries that wait, are due at now and not
	// claimed, the longest due first, and claims them until the given time, so
	// that no other claimant gets them before. Each comes with its Claim.
	ClaimCallbacks(ctx context.Context, now, until time.Time, limit int) ([]Callback, error)
	// KeepCallbacks keeps what became of claimed entries, all of each but Source
	// and Until, and ends their claims. One that somebody else has claimed since is
	// left as it is.
	KeepCallbacks(ctx context.Context, entries []Callback) error
	// ListCallbacks returns what is parked, by DueAt and then by message.
	ListCallbacks(ctx context.Context, q CallbacksQuery) ([]Callback, error)
	// ReplayCallback has the parked entry of id wait again, due at the given time,
	// as if it had never failed, and reports whether there was one.
	ReplayCallback(ctx context.Context, id push.MessageID, due time.Time) (bool, error)
	// DiscardCallback ends the parked entry of id and reports whether there was
	// one.
	DiscardCallback(ctx context.Context, id push.MessageID) (bool, error)
}

// A CallbackState is where a callback stands.
type CallbackState int

// The states of a callback.
const (
	CallbackWaits  CallbackState = iota // to be looked at when it is due
	CallbackParked                      // could not be told; nobody claims it until it is replayed
	CallbackEnded                       // all is told, or given up; kept so that a repeat does not begin it again
)

// A Callback is what a message's sender is still to be told of it.
type Callback struct {
	Message push.MessageID
	Source  string // whose callback it is
	State   CallbackState
	DueAt   time.Time // not to be looked at before; of a parked one, when it was parked
	// Attempts is how often telling has failed in a row, FailingSince since when,
	// Reason why the last time; nothing secret.
	Attempts     int
	FailingSince time.Time
	Reason       string
	Progress     []byte    // what is told and what is not, in the form of whoever tells
	Until        time.Time // when it may be forgotten
	Claim        string    // set by ClaimCallbacks
}

// A CallbacksQuery asks for parked callbacks behind (AfterAt, AfterMessage) in
// the order of both; the zero query asks for the first ones.
type CallbacksQuery struct {
	AfterAt      time.Time
	AfterMessage push.MessageID
	Limit        int // 0 means 1,000
}
