package store

import (
	"context"
	"time"
)

// Deliveries keeps the webhooks that came, to be looked at and replayed.
type Deliveries interface {
	// PutDeliveries keeps records durably. Where one of the same Source and ID
	// is kept, that one's Receipts grow by one and its LastAt is the new
	// record's ReceivedAt. The rest of it stays if it is Settled; else the new
	// record takes its place, but for Replays.
	PutDeliveries(ctx context.Context, records []Delivery) error
	// ListDeliveries returns the deliveries that q asks for, by place.
	ListDeliveries(ctx context.Context, q DeliveriesQuery) ([]Delivery, error)
	// LoadDelivery returns one delivery with its body. The error wraps
	// [ErrNotFound] if there is none.
	LoadDelivery(ctx context.Context, source, id string) (Delivery, error)
	// JudgeDeliveries gives the deliveries of records that are kept the Outcome,
	// the Settled and the Detail of records, and leaves the rest of them, what
	// they count for in TrimDeliveries too.
	JudgeDeliveries(ctx context.Context, records []Delivery) error
	// CountReplay adds one to the Replays of a delivery and returns what they
	// are then: of several calls no two get the same. The error wraps
	// [ErrNotFound] if there is no such delivery.
	CountReplay(ctx context.Context, source, id string) (int, error)
	// TrimDeliveries removes the oldest deliveries of source, until there are at
	// most of them, of at most size bytes together, and reports how many went.
	TrimDeliveries(ctx context.Context, source string, most int, size int64) (int, error)
}

// A Delivery is one webhook of a source as it is kept. What its Outcome and
// Detail say is Collect's affair.
type Delivery struct {
	Source     string // a source's name: 1 to 64 of A-Z a-z 0-9 _ . -
	ID         string // the sender's: 1 to 200 bytes of UTF-8 without control characters
	ReceivedAt time.Time
	LastAt     time.Time // of the last receipt; a new record's is its ReceivedAt
	Until      time.Time // when it may be forgotten
	Receipts   int       // how often it came; a new record's are 1
	Replays    int       // how often it was asked for again; a new record's are 0
	Outcome    string    // 1 to 32 bytes
	Settled    bool      // a later receipt changes nothing of it
	Detail     []byte
	Body       []byte
}

// Size is what a delivery counts for, in bytes.
func (d *Delivery) Size() int64 { return int64(len(d.ID) + len(d.Detail) + len(d.Body)) }

// Place is where a delivery stands among those of its source.
func (d *Delivery) Place() DeliveryPlace { return DeliveryPlace{At: d.ReceivedAt, ID: d.ID} }

// A DeliveryPlace orders the deliveries of a source: by the time and then by the
// bytes of the id. The place of a time and no id is before all of that time; the
// zero place is none.
type DeliveryPlace struct {
	At time.Time
	ID string
}

// IsZero reports whether p is no place.
func (p DeliveryPlace) IsZero() bool { return p.At.IsZero() && p.ID == "" }

// A DeliveriesQuery asks for the deliveries of Source between two places,
// neither of them included.
type DeliveriesQuery struct {
	Source  string
	Outcome string        // "": any
	After   DeliveryPlace // zero: from the oldest
	Before  DeliveryPlace // zero: to the newest
	Newest  bool          // the newest first; else the oldest
	Bodies  bool          // else they are left out
	Limit   int           // 0 means 100
}

// DefaultDeliveries is the limit of a [DeliveriesQuery] that names none.
const DefaultDeliveries = 100
