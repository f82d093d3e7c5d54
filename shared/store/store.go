// Package store is the contract of the durable store: what must never be lost.
// Package mongostore and package sqlitestore keep it, package storetest proves
// that they do, and package storeurl opens whichever a STORE_URL names.
//
// Every call has a deadline: the context's, or the home's own default of 5 s if
// that is sooner. An error that wraps [ErrUnavailable] means that the store
// could not be asked or did not answer in time; a write may then have happened
// or not, and every write here may be repeated without harm.
//
// Times are kept in milliseconds. The store judges nothing by a clock of its
// own: whoever asks passes now.
package store

import (
	"context"
	"errors"
	"time"

	"pushcluster/shared/push"
)

// Errors that callers act on.
var (
	ErrNotFound    = errors.New("not found")
	ErrUnavailable = errors.New("store unavailable")
	ErrFull        = errors.New("no more of these are kept")
)

// A Store is everything the durable store does. Components declare the part
// that they use.
type Store interface {
	Messages
	Inbox
	Outbox
	Parking
	Cursors
	Control
	Sources
	Deliveries
	Callbacks

	// Prepare creates tables, collections and indexes, where they are missing.
	// It may be called by several processes at once.
	Prepare(ctx context.Context) error
	// Sweep removes what has outlived its time at now: inbox entries past their
	// expiry, messages past it by push.RepeatWindow, and so long too what devices
	// were spared; cursors idle for CursorIdle; what is parked or cancelled,
	// revocations and deliveries, past their Until. It reports how many records went.
	Sweep(ctx context.Context, now time.Time) (int, error)
	// Ping asks whether the store answers.
	Ping(ctx context.Context) error
	// Close ends what the store has open. Calls under way may fail.
	Close() error
}

// CursorIdle is how long a cursor lives that no device has moved or touched.
const CursorIdle = 90 * 24 * time.Hour

// Messages keeps every accepted message by its id.
type Messages interface {
	// InsertMessages stores every record whose id is new, durably (a majority
	// write on MongoDB, an fsync on SQLite), before it returns. Insertions come
	// in the order of records; of two records with one id the first counts.
	InsertMessages(ctx context.Context, records []Record) ([]Insertion, error)
	// LoadMessages returns the records of those ids that exist.
	LoadMessages(ctx context.Context, ids []push.MessageID) (map[push.MessageID]Record, error)
}

// A Record is a message as it is kept.
type Record struct {
	push.Message
	// Fingerprint tells two messages of one id apart: equal fingerprints mean
	// that the sender asked for the same thing.
	Fingerprint string
}

// An Insertion is the outcome of storing one record.
type Insertion struct {
	// Repeat is true if a record with this id was there before, which is then
	// unchanged and described by the other fields.
	Repeat      bool
	Fingerprint string
	CreatedAt   time.Time
}

// Inbox keeps each channel's messages by offset: the durable counterpart of the
// log in Redis, and the one that decides.
type Inbox interface {
	// WriteInbox writes entries durably. In one channel an offset and a message
	// occur once. Placements come in the order of entries: where the message
	// had an entry in that channel before, that one stands and its offset is
	// returned; where another message holds the offset, Taken is true and
	// nothing was written for that entry.
	//
	// An entry with a collapse key supersedes all entries of its channel with
	// the same key and a smaller offset; one that comes late is itself
	// superseded. A superseded entry keeps its place and is read no more.
	WriteInbox(ctx context.Context, entries []InboxEntry) ([]Placement, error)
	// MoveInbox gives messages that have an entry in their channel the new,
	// larger offset of entries, and writes those that have none. Where the
	// entry's offset is already as large, it stays. An offset that another
	// message holds is an error. What collapses is judged by the new offsets.
	MoveInbox(ctx context.Context, entries []InboxEntry) error
	// PlacedAt returns the offset of message id in each of channels that has it.
	PlacedAt(ctx context.Context, id push.MessageID, channels []push.Channel) (map[push.Channel]push.Offset, error)
	// Places returns where message id stands in each of channels that has it.
	Places(ctx context.Context, id push.MessageID, channels []push.Channel) (map[push.Channel]Place, error)
	// ReadInbox returns a channel's entries by rising offset, with their
	// messages. It leaves out what has expired or was superseded, and entries
	// whose message is not there. A page with More has at least one entry.
	ReadInbox(ctx context.Context, q InboxQuery) (InboxPage, error)
	// LastOffsets returns the largest offset of each of channels that has an
	// entry.
	LastOffsets(ctx context.Context, channels []push.Channel) (map[push.Channel]push.Offset, error)
}

// An InboxEntry is one message's place in one channel.
type InboxEntry struct {
	Channel     push.Channel
	Offset      push.Offset
	Message     push.MessageID
	CollapseKey string
	ExpiresAt   time.Time
}

// A Placement is where a message stands in a channel.
type Placement struct {
	Offset push.Offset
	Taken  bool
}

// An InboxQuery asks for the entries of Channel with After < offset ≤ UpTo that
// are unexpired at Now.
type InboxQuery struct {
	Channel push.Channel
	After   push.Offset
	UpTo    push.Offset // 0: no upper end
	Now     time.Time
	// MaxEntries and MaxBytes (of data, at least one entry comes) bound the
	// page; 0 means 1,000 entries and 256 KiB.
	MaxEntries int
	MaxBytes   int
	// TellOmitted asks for the page's Omitted, which costs a second look.
	TellOmitted bool
}

// WithDefaults returns q with the bounds that it leaves open.
func (q InboxQuery) WithDefaults() InboxQuery {
	if q.MaxEntries <= 0 {
		q.MaxEntries = DefaultPageEntries
	}
	if q.MaxBytes <= 0 {
		q.MaxBytes = DefaultPageBytes
	}
	return q
}

// An InboxPage is a run of entries. Prev of its entries is not set. More is
// true if the page was full: entries beyond its last may exist.
type InboxPage struct {
	Entries []push.Entry
	More    bool
	// Omitted is what the page leaves out because it has expired or was
	// superseded, if the query asked for it: runs by rising offset, none of
	// which reaches over one of Entries, or behind the last one where there is
	// More.
	Omitted []Omission
}

// An Omission is a run of entries that a read left out because they had expired
// or were superseded: the first, the last and everything between them.
type Omission struct {
	First, Last push.Offset
	ExpiresAt   time.Time // the latest expiry among them
}

// Omissions collects what a page leaves out, for the homes of the store.
type Omissions struct {
	given []push.Entry // behind the last run
	list  []Omission
	open  bool // the last run may grow
}

// NewOmissions returns a collector for the page that holds the entries given.
func NewOmissions(given []push.Entry) *Omissions { return &Omissions{given: given} }

// Add notes that the entry at offset was left out, unless the page holds it: it
// may have been superseded since it was read. Offsets only rise.
func (o *Omissions) Add(offset push.Offset, expires time.Time) {
	for len(o.given) > 0 && o.given[0].Offset <= offset {
		if o.given[0].Offset == offset {
			return
		}
		o.given, o.open = o.given[1:], false
	}
	if !o.open {
		o.list, o.open = append(o.list, Omission{First: offset}), true
	}
	run := &o.list[len(o.list)-1]
	run.Last = offset
	if expires.After(run.ExpiresAt) {
		run.ExpiresAt = expires
	}
}

// List returns the runs.
func (o *Omissions) List() []Omission { return o.list }

// A Place is where a message stands in a channel's inbox.
type Place struct {
	Offset     push.Offset
	ExpiresAt  time.Time
	Superseded bool // a newer message has its collapse key
}

// Defaults of an [InboxQuery].
const (
	DefaultPageEntries = 1000
	DefaultPageBytes   = 256 << 10
)

// Outbox keeps accepted messages whose hand-off to Dispatch is not confirmed,
// and those that are to be delivered later.
//
// An entry with Channels is ordered: the messages of one channel are to go out
// by rising Sequence. The store gives the Sequence and tells who is ahead of
// whom; to hold back what has to wait is up to the claimant. An entry waits from
// PutOutbox on, claimed or not, until it is confirmed, parked or cancelled.
type Outbox interface {
	// PutOutbox writes entries durably; one whose message is there already, in
	// whatever state, is left as it is. An ordered entry gets a Sequence above
	// those of all that were put in calls which returned before this one began,
	// and of those before it in entries.
	PutOutbox(ctx context.Context, entries []OutboxEntry) error
	// ClaimOutbox takes entries that are due at now and not claimed: up to limit
	// ordered ones, the smallest Sequence first, and behind them up to limit of
	// the others, the longest due first. It claims them until the given time, so
	// that no other claimant gets them before.
	ClaimOutbox(ctx context.Context, now, until time.Time, limit int) ([]OutboxEntry, error)
	// ConfirmOutbox removes the entries of ids.
	ConfirmOutbox(ctx context.Context, ids []push.MessageID) error
	// RetryOutbox sets DueAt, Attempts and Reason of entries that still wait and
	// ends their claim.
	RetryOutbox(ctx context.Context, entries []OutboxEntry) error
	// CancelOutbox cancels the entry of id if it waits, nobody ever claimed it
	// and its Attempts are 0, and keeps that it did until the given time. Of it
	// and a claim only one succeeds. It reports whether the entry is cancelled,
	// now or before.
	CancelOutbox(ctx context.Context, id push.MessageID, at, until time.Time) (bool, error)
	// LoadOutbox returns the entries of those ids that have one, whatever their
	// state.
	LoadOutbox(ctx context.Context, ids []push.MessageID) (map[push.MessageID]OutboxRecord, error)

	// AnyBacklog reports whether any ordered entry waits. It costs one small
	// read, however many there are.
	AnyBacklog(ctx context.Context) (bool, error)
	// Backlog returns those of channels that an ordered entry waits for.
	Backlog(ctx context.Context, channels []push.Channel) (map[push.Channel]bool, error)
	// Ahead returns, by channel of entries, the first ordered entry that waits
	// for it and is none of entries, if its Sequence is below the largest of
	// theirs. What was put before the call is seen by it.
	Ahead(ctx context.Context, entries []OutboxEntry) (map[push.Channel]Ahead, error)
}

// An OutboxEntry is one message that waits for its hand-off.
type OutboxEntry struct {
	Message  push.MessageID
	DueAt    time.Time // not to be tried before
	Attempts int       // tries so far
	Reason   string    // why the last try failed, or why there was none; nothing secret
	// Channels are those that the message is for, each once. Without them the
	// entry, such as that of a scheduled message, waits for no other one, and no
	// other one for it.
	Channels []push.Channel
	Sequence int64 // of an ordered entry, from 1; the store gives it, and what a caller sets does not count
}

// An Ahead is an entry that others wait for.
type Ahead struct {
	Sequence int64
	DueAt    time.Time
}

// Cursors keeps how far each device of a user has come in each channel.
type Cursors interface {
	// LoadCursors returns the cursors of devices, in no particular order.
	LoadCursors(ctx context.Context, devices []UserDevice) ([]Cursor, error)
	// AdvanceCursors raises Received and Acknowledged where they are larger than
	// what is kept, and creates cursors that are missing, 0 included. No cursor
	// ever goes back. UpdatedAt becomes the larger of both.
	AdvanceCursors(ctx context.Context, cursors []Cursor) error
	// TouchCursors raises the UpdatedAt of those of cursors that exist to theirs,
	// where that is larger. What else they say does not count, and none is created.
	TouchCursors(ctx context.Context, cursors []Cursor) error
	// LoadUserCursors returns the cursors of all devices of user, by device and
	// channel, at most limit of them.
	LoadUserCursors(ctx context.Context, user push.UserID, limit int) ([]Cursor, error)
	// QuietDevices returns the devices of user that may be forgotten for those that
	// came after them: beyond the MaxDevices whose personal cursors, those in the
	// user's personal channel, were updated last, such as were not updated after
	// quiet. They come longest unseen first, 20 at most. Of many devices it
	// looks at MaxSeen: by name, those behind after and then from the first on.
	QuietDevices(ctx context.Context, user push.UserID, after push.Device, quiet time.Time) ([]push.Device, error)
	// ForgetDevices removes the cursors of devices of user, of each all or none: a
	// device whose personal cursor was updated after quiet keeps them. That cursor
	// goes first, so a device without it has been forgotten, whatever there is left
	// of it. Cursors that were updated DeviceQuiet/2 after quiet or later stay:
	// they are of a device that has come back.
	ForgetDevices(ctx context.Context, user push.UserID, devices []push.Device, quiet time.Time) error
	// ListDevices returns the devices that an entry is for: those with a cursor
	// in its channel and a Start before its offset, by user and then device.
	ListDevices(ctx context.Context, q DevicesQuery) ([]DeviceState, error)
	// Spare notes what devices were not given. Noting the same again changes
	// nothing. It is kept as long as messages of that expiry are.
	Spare(ctx context.Context, spared []Spared) error
	// RemoveCursors forgets how far one device has come in channels.
	RemoveCursors(ctx context.Context, user push.UserID, device push.Device, channels []push.Channel) error
}

// A UserDevice is one device of a user.
type UserDevice struct {
	User   push.UserID
	Device push.Device
}

// A Cursor is how far one device has received and acknowledged one channel.
type Cursor struct {
	User         push.UserID
	Device       push.Device
	Channel      push.Channel
	Received     push.Offset
	Acknowledged push.Offset
	UpdatedAt    time.Time
	// Start is where the device began: entries up to it were never for the
	// device. A cursor keeps the Start that it was made with.
	Start push.Offset
}

// A Spared is a run of entries that a device was not given although its cursor
// passes them.
type Spared struct {
	User    push.UserID
	Device  push.Device
	Channel push.Channel
	Omission
}

// A DevicesQuery asks how far devices have come with the entry of Channel at
// Offset, those behind (AfterUser, AfterDevice) in the order of both.
type DevicesQuery struct {
	Channel     push.Channel
	Offset      push.Offset
	AfterUser   push.UserID
	AfterDevice push.Device
	Limit       int // 0 means 1,000
}

// DefaultDevices is the limit of a [DevicesQuery] that names none.
const DefaultDevices = 1000

// A DeviceState is a device's cursor, and whether the device was spared the
// entry that was asked about.
type DeviceState struct {
	Cursor
	Spared bool
}

// Control keeps the few facts that all components must agree on.
type Control interface {
	// Term returns the newest term, the zero Term if there was none.
	Term(ctx context.Context) (push.Term, error)
	// SwapTerm replaces the term by next if it is still old in every field, and
	// reports whether it did. The zero Term as old means that there is none.
	SwapTerm(ctx context.Context, old, next push.Term) (bool, error)
	// TermLasts reports whether the newest term has this marker. If so, whatever
	// this process wrote before the call is found by whoever learns of a later term
	// and then reads: each write came before that term began.
	TermLasts(ctx context.Context, marker string) (bool, error)
	// Epoch returns the name of this store's life that clients see, never
	// empty. The first call makes it; it then never changes.
	Epoch(ctx context.Context) (string, error)

	// AddRevocation keeps r until r.Until. If the same user or token is revoked
	// already, the later At and the later Until count. If most others have not
	// ended at now, the error wraps [ErrFull] and nothing is kept.
	AddRevocation(ctx context.Context, r push.Revocation, now time.Time, most int) error
	// ListRevocations returns the revocations that have not ended at now, in no
	// particular order.
	ListRevocations(ctx context.Context, now time.Time) ([]push.Revocation, error)
}
