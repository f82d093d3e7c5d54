package collectfn

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// Bounds of one page of a message's state.
const (
	pageDevices    = 1000
	pageRecipients = 1000
	listsAtOnce    = 16 // channels whose devices are read side by side
)

// A state is how far a message, one of its recipients or one device has come.
type state string

// The states, from the least to the furthest.
const (
	stateCancelled    state = "cancelled"    // it was taken back, or given up, before it went out
	stateScheduled    state = "scheduled"    // it goes out at its deliver_at
	stateStored       state = "stored"       // it is kept, and on its way
	stateParked       state = "parked"       // it could not be delivered; an operator decides
	stateSuperseded   state = "superseded"   // a newer one with its collapse key took its place first
	stateExpired      state = "expired"      // its time was over first
	stateRouted       state = "routed"       // it has its place; who connects gets it
	stateReceived     state = "received"     // a device proved that it has it
	stateAcknowledged state = "acknowledged" // the application on a device has dealt with it
)

var stateRank = map[state]int{
	stateCancelled: 0, stateScheduled: 1, stateStored: 2, stateParked: 3, stateSuperseded: 4,
	stateExpired: 5, stateRouted: 6, stateReceived: 7, stateAcknowledged: 8,
}

func further(a, b state) state {
	if stateRank[b] > stateRank[a] {
		return b
	}
	return a
}

// A messageState is what is known of a message. Its state and those of its
// recipients sum up the devices of this page: the furthest that any has come.
type messageState struct {
	ID         push.MessageID   `json:"id"`
	Event      string           `json:"event,omitempty"`
	CreatedAt  time.Time        `json:"created_at"`
	ExpiresAt  time.Time        `json:"expires_at"`
	State      state            `json:"state"`
	Recipients []recipientState `json:"recipients"`
	Next       string           `json:"next,omitempty"` // asks for the page behind this one
}

// A recipientState is what is known of a message in one channel.
type recipientState struct {
	Channel push.Channel  `json:"channel"`
	Offset  push.Offset   `json:"offset,omitempty"` // once it has its place, and as long as that is kept
	State   state         `json:"state"`
	Devices []deviceState `json:"devices"` // those of connections with a device id
}

// A deviceState is how far one device has come with a message.
type deviceState struct {
	User   push.UserID `json:"user"`
	Device push.Device `json:"device"`
	State  state       `json:"state"`
	// At is when the message took its place, expired, or, once it was received,
	// when the device last proved how far it is.
	At time.Time `json:"at,omitzero"`
}

// waitingState returns the state of a message in a channel where it has no place,
// as the outbox tells.
func waitingState(m *push.Message, outbox store.OutboxRecord, now time.Time) state {
	switch {
	case outbox.State == store.Cancelled:
		return stateCancelled
	case outbox.State == store.Parked:
		return stateParked
	case m.Expired(now):
		return stateExpired
	case m.DeliverAt.After(now):
		return stateScheduled
	}
	return stateStored
}

// placedState returns the state of a message at its place, for a device that has
// not received it.
func placedState(p store.Place, now time.Time) (state, time.Time) {
	switch {
	case p.Superseded:
		return stateSuperseded, time.Time{}
	case !p.ExpiresAt.After(now):
		return stateExpired, p.ExpiresAt
	}
	return stateRouted, p.Offset.Time().UTC()
}

// newDeviceState returns how far a device has come with the message at p. That
// its cursor passes a message which it was spared proves nothing.
func newDeviceState(d *store.DeviceState, p store.Place, now time.Time) deviceState {
	s := deviceState{User: d.User, Device: d.Device, At: d.UpdatedAt}
	switch {
	case d.Spared && p.Superseded:
		s.State, s.At = stateSuperseded, time.Time{}
	case d.Spared:
		s.State, s.At = stateExpired, p.ExpiresAt
	case d.Acknowledged >= p.Offset:
		s.State = stateAcknowledged
	case d.Received >= p.Offset:
		s.State = stateReceived
	default:
		s.State, s.At = placedState(p, now)
	}
	return s
}

// A statePage fills one page of a message's state.
type statePage struct {
	store   Store
	message *push.Message
	now     time.Time
	waiting state    // where the message has no place
	from    pageMark // where the page begins

	recipients []recipientState
	devices    int // in recipients
	next       *pageMark
}

// fill reads the page from the channels of the message that are left.
func (p *statePage) fill(ctx context.Context) error {
	channels := p.message.To.List()
	at, _ := slices.BinarySearch(channels, p.from.Channel)
	channels = channels[at:]
	if len(channels) > pageRecipients {
		p.next = &pageMark{Channel: channels[pageRecipients]}
		channels = channels[:pageRecipients]
	}
	places, err := p.store.Places(ctx, p.message.ID, channels)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(channels, listsAtOnce) {
		lists, err := p.list(ctx, part, places)
		if err != nil {
			return err
		}
		for i, channel := range part {
			room := pageDevices - p.devices
			if room == 0 && len(lists[i]) > 0 {
				p.next = &pageMark{Channel: channel}
				return nil
			}
			p.add(channel, places, lists[i][:min(len(lists[i]), room)])
			if len(lists[i]) > room {
				last := lists[i][room-1]
				p.next = &pageMark{Channel: channel, User: last.User, Device: last.Device}
				return nil
			}
		}
	}
	return nil
}

// list returns the devices of each of channels, one more than the page has room
// for.
func (p *statePage) list(ctx context.Context, channels []push.Channel, places map[push.Channel]store.Place) ([][]store.DeviceState, error) {
	lists := make([][]store.DeviceState, len(channels))
	g, ctx := errgroup.WithContext(ctx)
	for i, channel := range channels {
		place, ok := places[channel]
		if !ok {
			continue
		}
		q := store.DevicesQuery{Channel: channel, Offset: place.Offset, Limit: pageDevices - p.devices + 1}
		if channel == p.from.Channel {
			q.AfterUser, q.AfterDevice = p.from.User, p.from.Device
		}
		g.Go(func() (err error) {
			lists[i], err = p.store.ListDevices(ctx, q)
			return err
		})
	}
	return lists, g.Wait()
}

// add adds one recipient with its devices.
func (p *statePage) add(channel push.Channel, places map[push.Channel]store.Place, list []store.DeviceState) {
	r := recipientState{Channel: channel, State: p.waiting, Devices: make([]deviceState, len(list))}
	if place, ok := places[channel]; ok {
		r.Offset = place.Offset
		r.State, _ = placedState(place, p.now)
		for i := range list {
			r.Devices[i] = newDeviceState(&list[i], place, p.now)
			r.State = further(r.State, r.Devices[i].State)
		}
	}
	p.devices += len(list)
	p.recipients = append(p.recipients, r)
}
