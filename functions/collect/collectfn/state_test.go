package collectfn

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// state asks for a page of a message's state.
func (r *rig) state(id, next string) messageState {
	r.t.Helper()
	path := "/v1/messages/" + id
	if next != "" {
		path += "?next=" + next
	}
	w := r.order("GET", path, "")
	var s messageState
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || w.Code != 200 {
		r.t.Fatalf("GET %s = %d %s", path, w.Code, w.Body)
	}
	return s
}

func (r *rig) place(entries ...store.InboxEntry) {
	r.t.Helper()
	if _, err := r.store.WriteInbox(r.t.Context(), entries); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) advance(cursors ...store.Cursor) {
	r.t.Helper()
	if err := r.store.AdvanceCursors(r.t.Context(), cursors); err != nil {
		r.t.Fatal(err)
	}
}

// TestDeviceStates goes through what a device's cursor and its exceptions say of
// a message for user 42 that has its place and expires in an hour.
func TestDeviceStates(t *testing.T) {
	offset := push.OffsetAt(start.Add(time.Second))
	seen := start.Add(time.Minute)
	cursor := func(received, acknowledged push.Offset) *store.Cursor {
		return &store.Cursor{User: "42", Device: "d", Channel: "#42", Received: received, Acknowledged: acknowledged, UpdatedAt: seen}
	}
	late := cursor(offset+9, 0)
	late.Start = offset
	tests := map[string]struct {
		cursor     *store.Cursor
		superseded bool
		spared     bool
		after      time.Duration
		want       state // of the device, "" for none
		at         time.Time
		sum        state // of message and recipient
	}{
		"no device":                     {nil, false, false, 0, "", time.Time{}, stateRouted},
		"no device, expired":            {nil, false, false, time.Hour, "", time.Time{}, stateExpired},
		"no device, superseded":         {nil, true, false, 0, "", time.Time{}, stateSuperseded},
		"not there yet":                 {cursor(offset-1, 0), false, false, 0, stateRouted, start.Add(time.Second), stateRouted},
		"received":                      {cursor(offset, 0), false, false, 0, stateReceived, seen, stateReceived},
		"acknowledged":                  {cursor(offset+1, offset), false, false, 0, stateAcknowledged, seen, stateAcknowledged},
		"acknowledged what was before":  {cursor(offset, offset-1), false, false, 0, stateReceived, seen, stateReceived},
		"expired before it came":        {cursor(offset-1, 0), false, false, time.Hour, stateExpired, start.Add(time.Hour), stateExpired},
		"received, then expired":        {cursor(offset, 0), false, false, time.Hour, stateReceived, seen, stateReceived},
		"superseded before it came":     {cursor(offset-1, 0), true, false, 0, stateSuperseded, time.Time{}, stateSuperseded},
		"received, then superseded":     {cursor(offset, 0), true, false, 0, stateReceived, seen, stateReceived},
		"spared because it had expired": {cursor(offset+5, 0), false, true, time.Hour, stateExpired, start.Add(time.Hour), stateExpired},
		"spared, superseded":            {cursor(offset+5, offset+5), true, true, 0, stateSuperseded, time.Time{}, stateSuperseded},
		"began after it":                {late, false, false, 0, "", time.Time{}, stateRouted},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			idOf(t, r.post(`{"id":"a","to":{"users":["42"]},"data":1,"ttl":"1h","collapse_key":"k"}`))
			r.place(store.InboxEntry{Channel: "#42", Offset: offset, Message: "shop/a", CollapseKey: "k", ExpiresAt: start.Add(time.Hour)})
			if tt.superseded {
				r.place(store.InboxEntry{Channel: "#42", Offset: offset + 1, Message: "shop/b", CollapseKey: "k", ExpiresAt: start.Add(time.Hour)})
			}
			if tt.cursor != nil {
				r.advance(*tt.cursor)
			}
			if tt.spared {
				if err := r.store.Spare(t.Context(), []store.Spared{{User: "42", Device: "d", Channel: "#42",
					Omission: store.Omission{First: offset - 1, Last: offset, ExpiresAt: start.Add(time.Hour)}}}); err != nil {
					t.Fatal(err)
				}
			}
			r.set(func() { r.clock = start.Add(tt.after) })
			s := r.state("shop/a", "")
			if len(s.Recipients) != 1 || s.Next != "" {
				t.Fatalf("state %+v, want one recipient", s)
			}
			got := s.Recipients[0]
			if got.Channel != "#42" || got.Offset != offset || got.State != tt.sum || s.State != tt.sum {
				t.Errorf("the message is %s, its recipient %+v, want %s at %d", s.State, got, tt.sum, offset)
			}
			var want []deviceState
			if tt.want != "" {
				want = []deviceState{{User: "42", Device: "d", State: tt.want, At: tt.at}}
			}
			if !slices.Equal(got.Devices, want) {
				t.Errorf("devices %+v, want %+v", got.Devices, want)
			}
		})
	}
}

// TestMessageStates goes through the life of a message before it has a place.
func TestMessageStates(t *testing.T) {
	tests := map[string]struct {
		message string
		then    func(r *rig)
		want    state
	}{
		"stored":    {``, func(*rig) {}, stateStored},
		"expired":   {``, func(r *rig) { r.clock = start.Add(time.Hour) }, stateExpired},
		"scheduled": {`,"deliver_at":"2030-01-31T10:30:00Z"`, func(*rig) {}, stateScheduled},
		"due":       {`,"deliver_at":"2030-01-31T10:30:00Z"`, func(r *rig) { r.clock = start.Add(time.Hour) }, stateStored},
		"cancelled": {`,"deliver_at":"2030-01-31T10:30:00Z"`, func(r *rig) { r.order("DELETE", "/v1/messages/shop/a", "") }, stateCancelled},
		"cancelled, expired": {`,"deliver_at":"2030-01-31T10:30:00Z"`, func(r *rig) {
			r.order("DELETE", "/v1/messages/shop/a", "")
			r.clock = start.Add(3 * time.Hour)
		}, stateCancelled},
		"parked":    {``, func(r *rig) { r.park("shop/a") }, stateParked},
		"replayed":  {``, func(r *rig) { r.park("shop/a"); r.order("POST", "/v1/parked/shop%2Fa/replay", "") }, stateStored},
		"discarded": {``, func(r *rig) { r.park("shop/a"); r.order("DELETE", "/v1/parked/shop%2Fa", "") }, stateCancelled},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			idOf(t, r.post(`{"id":"a","to":{"users":["42"]},"data":1,"ttl":"1h"`+tt.message+`}`))
			tt.then(r)
			s := r.state("shop/a", "")
			if s.State != tt.want || len(s.Recipients) != 1 || s.Recipients[0].State != tt.want || s.Recipients[0].Offset != 0 || len(s.Recipients[0].Devices) != 0 {
				t.Errorf("state %+v, want %s everywhere", s, tt.want)
			}
		})
	}
}

// TestParkedHalfway has one recipient of a parked message served.
func TestParkedHalfway(t *testing.T) {
	r := newRig(t)
	idOf(t, r.post(`{"id":"a","to":{"users":["1","2"]},"data":1}`))
	r.place(store.InboxEntry{Channel: "#1", Offset: 7, Message: "shop/a", ExpiresAt: start.Add(time.Hour)})
	r.park("shop/a")
	s := r.state("shop/a", "")
	if s.State != stateParked || s.Recipients[0].State != stateRouted || s.Recipients[1].State != stateParked {
		t.Errorf("state %+v, want it parked, with one of two recipients routed", s)
	}
}

// TestStatePages reads the state of a message with many devices in one channel
// and some in others, and of one with many recipients, page by page.
func TestStatePages(t *testing.T) {
	r := newRig(t)
	idOf(t, r.post(`{"id":"a","to":{"users":["1","2","3"],"channels":["news"],"all":true},"data":1,"ttl":"1h"}`))
	var want []string
	var cursors []store.Cursor
	add := func(channel push.Channel, n int) {
		r.place(store.InboxEntry{Channel: channel, Offset: 7, Message: "shop/a", ExpiresAt: start.Add(time.Hour)})
		for i := range n {
			user := push.UserID(fmt.Sprintf("u%04d", i))
			if u, ok := channel.User(); ok {
				user = u
			}
			device := push.Device(fmt.Sprintf("d%d", i))
			cursors = append(cursors, store.Cursor{User: user, Device: device, Channel: channel, UpdatedAt: start, Received: push.Offset(7 * (i % 2))})
			want = append(want, fmt.Sprintf("%s %s %s", channel, user, device))
		}
	}
	add("#1", 2)
	add("#2", 0)
	add("#3", 998) // the first page is full with it
	add("all", 2300)
	add("news", 5)
	for part := range slices.Chunk(cursors, 200) { // each within the store's deadline, on a busy machine too
		r.advance(part...)
	}
	slices.Sort(want)

	var got []string
	pages, next := 0, ""
	for {
		s := r.state("shop/a", next)
		pages++
		devices := 0
		for _, rec := range s.Recipients {
			for _, d := range rec.Devices {
				got = append(got, fmt.Sprintf("%s %s %s", rec.Channel, d.User, d.Device))
				devices++
			}
		}
		if devices > pageDevices {
			t.Fatalf("page %d holds %d devices", pages, devices)
		}
		if s.Next == "" || pages > 10 {
			break
		}
		next = s.Next
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || pages != 4 {
		t.Errorf("%d pages tell of %d devices, want 4 and each of %d once", pages, len(got), len(want))
	}
}

func TestStateRecipientPages(t *testing.T) {
	r := newRig(t)
	var users []string
	for i := range 2100 {
		users = append(users, fmt.Sprintf(`"user%d"`, i))
	}
	idOf(t, r.post(`{"id":"a","to":{"users":[`+strings.Join(users, ",")+`]},"data":1,"ttl":"1h"}`))
	seen := make(map[push.Channel]int)
	next, sizes := "", []int{}
	for range 5 {
		s := r.state("shop/a", next)
		sizes = append(sizes, len(s.Recipients))
		for _, rec := range s.Recipients {
			seen[rec.Channel]++
		}
		if next = s.Next; next == "" {
			break
		}
	}
	if len(seen) != 2100 || !slices.Equal(sizes, []int{1000, 1000, 100}) {
		t.Errorf("pages of %v tell of %d recipients, want 2,100 in three", sizes, len(seen))
	}
}

func TestBadMark(t *testing.T) {
	r := newRig(t)
	idOf(t, r.post(`{"id":"a","to":{"all":true},"data":1}`))
	for _, path := range []string{"/v1/messages/shop/a?next=%21", "/v1/messages/shop/a?next=", "/v1/messages/shop/a?next=e30&next=e30", "/v1/parked?next=bm90"} {
		if w := r.order("GET", path, ""); codeOf(w) != push.CodeBadRequest {
			t.Errorf("GET %s = %d %s, want 400 bad_request", path, w.Code, w.Body)
		}
	}
}

func FuzzMark(f *testing.F) {
	f.Add(encodeMark(pageMark{"#42", "42", "phone"}))
	f.Add(encodeMark(parkedMark{start, "shop/a"}))
	f.Add("bnVsbA")
	f.Fuzz(func(t *testing.T, text string) {
		page, err := decodeMark[pageMark](text)
		if err != nil && err != errMark {
			t.Errorf("decodeMark(%q) = %v", text, err)
		}
		if err == nil {
			if again, err := decodeMark[pageMark](encodeMark(page)); err == nil && again != page {
				t.Errorf("decodeMark(%q) = %+v, which comes back as %+v", text, page, again)
			}
		}
		if _, err := decodeMark[parkedMark](text); err != nil && err != errMark {
			t.Errorf("decodeMark(%q) = %v", text, err)
		}
	})
}
