package callback

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// When events are told of that come late.
const (
	// expiryGrace is how long after its expiry a message counts as expired: what
	// was pushed just before is proved by a pong that comes after.
	expiryGrace = time.Minute
	// ackGrace is how long after its expiry an acknowledgement is told.
	ackGrace = time.Hour
)

// How long after a message came the looks at it are.
const (
	firstLook = time.Second
	maxBreak  = 5 * time.Minute
)

// A recipient is one channel that a message is for, as far as its sender is
// still to be told of it.
type recipient struct {
	Channel push.Channel `json:"c"`
	Offset  push.Offset  `json:"o,omitempty"` // once it has its place
	Told    []string     `json:"t,omitempty"` // events
	// Superseded is true once a newer message was seen in its place.
	Superseded bool `json:"s,omitempty"`
}

func (r *recipient) told(event string) bool { return slices.Contains(r.Told, event) }

// encode returns what is left to be told, as the store keeps it. Those that all
// is told of are not in it.
func encode(left []*recipient) []byte {
	text, err := json.Marshal(left)
	if err != nil {
		return nil // not reached: it is texts and numbers
	}
	return text
}

// decode reads what is left to be told, everybody whom m is for if nobody has
// looked yet.
func decode(progress []byte, m *push.Message) ([]*recipient, error) {
	if len(progress) == 0 {
		var left []*recipient
		for _, channel := range m.To.List() {
			left = append(left, &recipient{Channel: channel})
		}
		return left, nil
	}
	var left []*recipient
	dec := json.NewDecoder(bytes.NewReader(progress))
	if err := dec.Decode(&left); err != nil || slices.Contains(left, nil) {
		return nil, errors.New("what was told cannot be read")
	}
	return left, nil
}

// A reach is how far a message has come with one recipient: the first devices
// that have it.
type reach struct {
	received, acknowledged *store.DeviceState
}

// note takes one device into account. That its cursor passes a message which it
// was spared proves nothing.
func (r *reach) note(d *store.DeviceState, offset push.Offset) {
	if d.Spared {
		return
	}
	if r.received == nil && (d.Received >= offset || d.Acknowledged >= offset) {
		r.received = d
	}
	if r.acknowledged == nil && d.Acknowledged >= offset {
		r.acknowledged = d
	}
}

// A happening is one event that is to be told.
type happening struct {
	name  string
	of    *recipient
	state string             // as GET /v1/messages tells it
	by    *store.DeviceState // nil: no device did it
	at    time.Time          // zero: nobody knows
}

// happened returns what is to be told of r now, in its order, and whether that
// is the last. ended says what the message is if its time is over.
func happened(c *source.Callback, m *push.Message, r *recipient, how reach, ended string, now time.Time) (list []happening, last bool) {
	add := func(event string, h happening) {
		if c.Wants(event) && !r.told(event) {
			h.name, h.of = event, r
			list = append(list, h)
		}
	}
	if how.received != nil {
		add(source.EventReceived, happening{state: "received", by: how.received, at: how.received.UpdatedAt})
	}
	if how.acknowledged != nil {
		add(source.EventAcknowledged, happening{state: "acknowledged", by: how.acknowledged, at: how.acknowledged.UpdatedAt})
	}
	over := !now.Before(m.ExpiresAt.Add(expiryGrace))
	if over && how.received == nil {
		state := ended
		if r.Superseded {
			state = "superseded"
		}
		add(source.EventExpired, happening{state: state, at: m.ExpiresAt})
		return list, true
	}
	switch {
	case how.acknowledged != nil:
		return list, true
	case how.received != nil:
		return list, !c.Wants(source.EventAcknowledged) || !now.Before(m.ExpiresAt.Add(ackGrace))
	}
	// Nobody has it yet. If nothing but its expiry is wanted, that comes.
	return list, false
}

// nextLook is when m is to be looked at again.
func nextLook(m *push.Message, now time.Time) time.Time {
	next := now.Add(min(max(now.Sub(m.CreatedAt)/10, firstLook), maxBreak))
	if over := m.ExpiresAt.Add(expiryGrace); now.Before(over) && next.After(over) {
		return over
	}
	return next
}

// FirstLook is when a message that came at now is looked at first.
func FirstLook(now time.Time) time.Time { return now.Add(firstLook) }

// eventID returns the webhook-id of an event: the same whenever it is told.
func eventID(message push.MessageID, channel push.Channel, event string) string {
	h := sha256.New()
	for _, part := range []string{string(message), string(channel), event} {
		h.Write([]byte(part))
		h.Write([]byte{0}) // is in none of them
	}
	return "evt_" + hex.EncodeToString(h.Sum(nil)[:16])
}

// A body is what is posted.
type body struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      bodyData  `json:"data"`
}

type bodyData struct {
	ID      push.MessageID `json:"id"`
	Source  string         `json:"source"`
	Event   string         `json:"event,omitempty"` // of the message
	Channel push.Channel   `json:"channel"`
	State   string         `json:"state"`
	User    push.UserID    `json:"user,omitempty"`
	Device  push.Device    `json:"device,omitempty"`
	Offset  push.Offset    `json:"offset,omitempty"`
	At      time.Time      `json:"at,omitzero"`
}

// bodyOf returns what is posted of h at now.
func bodyOf(h *happening, sourceName string, m *push.Message, now time.Time) ([]byte, error) {
	data := bodyData{ID: m.ID, Source: sourceName, Event: m.Event, Channel: h.of.Channel, State: h.state, Offset: h.of.Offset, At: h.at.UTC()}
	if h.at.IsZero() {
		data.At = time.Time{}
	}
	if h.by != nil {
		data.User, data.Device = h.by.User, h.by.Device
	} else if user, ok := h.of.Channel.User(); ok {
		data.User = user
	}
	return json.Marshal(body{Type: h.name, Timestamp: now.UTC(), Data: data})
}
