package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var messageTests = []test{
	{"messages/first and repeat", testRepeat},
	{"messages/two of one id in one call", testTwoInOneCall},
	{"messages/insertions come in order", testInsertionOrder},
	{"messages/every field comes back", testMessageFields},
	{"messages/data comes back byte for byte", testMessageData},
	{"messages/odd ids", testOddMessageIDs},
	{"messages/the largest message", testLargestMessage},
	{"messages/load what exists", testLoadMessages},
	{"messages/no records", testNoRecords},
}

func testRepeat(t *testing.T, s store.Store) {
	first := message("m1")
	first.CreatedAt = base.Add(123*time.Millisecond + 456*time.Microsecond)
	got, err := s.InsertMessages(t.Context(), []store.Record{first})
	check(t, err)
	if len(got) != 1 || got[0].Repeat {
		t.Fatalf("first insertion = %+v, want one that is no repeat", got)
	}

	second := message("m1")
	second.Fingerprint, second.Data, second.CreatedAt = "other", json.RawMessage(`"other"`), base.Add(time.Minute)
	got, err = s.InsertMessages(t.Context(), []store.Record{second})
	check(t, err)
	want := store.Insertion{Repeat: true, Fingerprint: first.Fingerprint, CreatedAt: base.Add(123 * time.Millisecond)}
	if len(got) != 1 || got[0] != want {
		t.Fatalf("second insertion = %+v, want %+v", got, want)
	}
	loaded, err := s.LoadMessages(t.Context(), []push.MessageID{"m1"})
	check(t, err)
	if r := loaded["m1"]; r.Fingerprint != first.Fingerprint || !bytes.Equal(r.Data, first.Data) || !r.CreatedAt.Equal(want.CreatedAt) {
		t.Errorf("after a repeat the record is %+v, want it unchanged: %+v", r, first)
	}
}

func testTwoInOneCall(t *testing.T, s store.Store) {
	insert(t, s, "old")
	a, b, c, d := message("m"), message("m"), message("old"), message("old")
	b.Fingerprint, c.Fingerprint, d.Fingerprint = "b", "c", "d"
	got, err := s.InsertMessages(t.Context(), []store.Record{a, b, c, d})
	check(t, err)
	for i, want := range []store.Insertion{
		{Repeat: false, Fingerprint: a.Fingerprint},
		{Repeat: true, Fingerprint: a.Fingerprint},
		{Repeat: true, Fingerprint: message("old").Fingerprint},
		{Repeat: true, Fingerprint: message("old").Fingerprint},
	} {
		if got[i].Repeat != want.Repeat || want.Repeat && (got[i].Fingerprint != want.Fingerprint || !got[i].CreatedAt.Equal(base)) {
			t.Errorf("insertion %d = %+v, want %+v", i, got[i], want)
		}
	}
	loaded, err := s.LoadMessages(t.Context(), []push.MessageID{"m"})
	check(t, err)
	if loaded["m"].Fingerprint != a.Fingerprint {
		t.Errorf("of two records with one id %q was kept, want the first, %q", loaded["m"].Fingerprint, a.Fingerprint)
	}
}

func testInsertionOrder(t *testing.T, s store.Store) {
	insert(t, s, "m3", "m7", "m0")
	var records []store.Record
	for i := range 10 {
		records = append(records, message(push.MessageID(fmt.Sprintf("m%d", 9-i))))
	}
	got, err := s.InsertMessages(t.Context(), records)
	check(t, err)
	if len(got) != len(records) {
		t.Fatalf("%d insertions of %d records", len(got), len(records))
	}
	for i, in := range got {
		id := records[i].ID
		if want := id == "m3" || id == "m7" || id == "m0"; in.Repeat != want {
			t.Errorf("insertion %d (%s): repeat %v, want %v", i, id, in.Repeat, want)
		}
	}
}

func testMessageFields(t *testing.T, s store.Store) {
	zone := time.FixedZone("east", 3*3600)
	full := store.Record{
		Message: push.Message{
			ID: "key/1", Event: "order.created", CollapseKey: "order:1", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			To:        push.Recipients{Users: []push.UserID{"42", "ä.b$"}, Channels: []push.Channel{"news", "room:7"}, All: true},
			Data:      json.RawMessage(`{"a":1}`),
			CreatedAt: base.Add(999 * time.Microsecond).In(zone),
			ExpiresAt: base.Add(time.Hour + time.Nanosecond).In(zone),
			DeliverAt: base.Add(time.Minute).In(zone),
		},
		Fingerprint: "sha256:00ff",
	}
	bare := store.Record{Message: push.Message{ID: "key/2", To: push.Recipients{Users: []push.UserID{"1"}}, CreatedAt: base, ExpiresAt: base.Add(time.Hour)}}
	_, err := s.InsertMessages(t.Context(), []store.Record{full, bare})
	check(t, err)

	got, err := s.LoadMessages(t.Context(), []push.MessageID{"key/1", "key/2"})
	check(t, err)
	full.CreatedAt, full.ExpiresAt, full.DeliverAt = base, base.Add(time.Hour), base.Add(time.Minute)
	for id, want := range map[push.MessageID]store.Record{"key/1": full, "key/2": bare} {
		if !reflect.DeepEqual(got[id], want) {
			t.Errorf("record %s came back as\n%+v, want\n%+v", id, got[id], want)
		}
	}
}

func testMessageData(t *testing.T, s store.Store) {
	values := []string{
		`null`, `true`, `0`, `-0.0`, `1e400`, `12345678901234567890123`, `""`, `"\u0000\ud83d\ude00é<&>"`, `[]`, `{}`,
		`{"b":1,"a":2,"b":3}`, " { \"spaced\" :\t[ 1 ,2.50 ]\r\n} ", `{"$set":{"a.b":1},"":0}`,
	}
	var records []store.Record
	var ids []push.MessageID
	for i, v := range values {
		r := message(push.MessageID(fmt.Sprintf("m%d", i)))
		r.Data = json.RawMessage(v)
		records, ids = append(records, r), append(ids, r.ID)
	}
	_, err := s.InsertMessages(t.Context(), records)
	check(t, err)
	got, err := s.LoadMessages(t.Context(), ids)
	check(t, err)
	for i, v := range values {
		if data := string(got[ids[i]].Data); data != v {
			t.Errorf("data %q came back as %q", v, data)
		}
	}
}

func testOddMessageIDs(t *testing.T, s store.Store) {
	var ids []push.MessageID
	for _, name := range oddNames {
		ids = append(ids, push.MessageID(name), push.MessageID("key/"+name))
	}
	insert(t, s, ids...)
	got, err := s.LoadMessages(t.Context(), ids)
	check(t, err)
	for _, id := range ids {
		if r := got[id]; r.ID != id || r.Fingerprint != message(id).Fingerprint {
			t.Errorf("message %q came back as %q with fingerprint %q", id, r.ID, r.Fingerprint)
		}
	}
}

func testLargestMessage(t *testing.T, s store.Store) {
	large := message("large")
	large.Data = json.RawMessage(`"` + string(bytes.Repeat([]byte("x"), push.MaxData-2)) + `"`)
	large.To = push.Recipients{}
	for i := range push.MaxRecipients {
		large.To.Users = append(large.To.Users, push.UserID(fmt.Sprintf("user-%d", i)))
	}
	_, err := s.InsertMessages(t.Context(), []store.Record{large})
	check(t, err)
	got, err := s.LoadMessages(t.Context(), []push.MessageID{"large"})
	check(t, err)
	if !reflect.DeepEqual(got["large"], large) {
		t.Errorf("a message with %d bytes of data and %d users came back with %d and %d",
			len(large.Data), len(large.To.Users), len(got["large"].Data), len(got["large"].To.Users))
	}
}

func testLoadMessages(t *testing.T, s store.Store) {
	insert(t, s, "a", "b", "c")
	got, err := s.LoadMessages(t.Context(), []push.MessageID{"a", "missing", "c", "a"})
	check(t, err)
	if len(got) != 2 || got["a"].ID != "a" || got["c"].ID != "c" {
		t.Errorf("LoadMessages(a, missing, c, a) = %v, want a and c", got)
	}
	got, err = s.LoadMessages(t.Context(), nil)
	check(t, err)
	if len(got) != 0 {
		t.Errorf("LoadMessages of no ids = %v, want none", got)
	}
}

// testNoRecords calls everything that takes a list without one.
func testNoRecords(t *testing.T, s store.Store) {
	insertions, err := s.InsertMessages(t.Context(), nil)
	check(t, err)
	placements, err := s.WriteInbox(t.Context(), nil)
	check(t, err)
	if len(insertions)+len(placements) != 0 {
		t.Errorf("of no records %v and %v", insertions, placements)
	}
	placed, err := s.PlacedAt(t.Context(), "m", nil)
	check(t, err)
	if len(placed) != 0 {
		t.Errorf("PlacedAt in no channels = %v", placed)
	}
	check(t, s.MoveInbox(t.Context(), nil))
	check(t, s.PutOutbox(t.Context(), nil))
	check(t, s.ConfirmOutbox(t.Context(), nil))
	check(t, s.RetryOutbox(t.Context(), nil))
	check(t, s.AdvanceCursors(t.Context(), nil))
	check(t, s.TouchCursors(t.Context(), nil))
	check(t, s.ForgetDevices(t.Context(), "u", nil, base))
	check(t, s.RemoveCursors(t.Context(), "u", "d", nil))
	check(t, s.ParkOutbox(t.Context(), nil))
	check(t, s.Spare(t.Context(), nil))
	places, err := s.Places(t.Context(), "m", nil)
	check(t, err)
	outbox, err := s.LoadOutbox(t.Context(), nil)
	check(t, err)
	if len(places)+len(outbox) != 0 {
		t.Errorf("of nothing asked %v and %v", places, outbox)
	}
}
