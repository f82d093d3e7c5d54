package hub_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/centrifugal/protocol"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
)

// compare encodes e both ways and compares with what package protocol makes of
// it.
func compare(t *testing.T, e push.Entry) {
	t.Helper()
	reply := &protocol.Reply{Push: &protocol.Push{Channel: string(e.Channel), Pub: hub.Wire(e)}}
	p := &hub.Publication{Entry: e}

	got, err := p.JSON()
	want, wantErr := protocol.DefaultJsonReplyEncoder.Encode(reply)
	// Package protocol looks at the whole only, which no data may end early.
	if valid := json.Valid(e.Message.Data); valid && wantErr != nil || (err == nil) != valid {
		t.Errorf("JSON of %+v: %v; package protocol says %v", e, err, wantErr)
	}
	if err == nil {
		if bytes.Contains(got, []byte("\n")) {
			t.Errorf("JSON of %+v is more than a line: %q", e, got)
		}
		var a, b any
		if err := json.Unmarshal(got, &a); err != nil {
			t.Fatalf("JSON of %+v is %q: %v", e, got, err)
		}
		if err := json.Unmarshal(want, &b); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("JSON of %+v is\n%s, want\n%s (%v)", e, got, want, err)
		}
	}

	frame, err := p.Protobuf()
	size, n := binary.Uvarint(frame)
	if err != nil || n <= 0 || int(size) != len(frame)-n {
		t.Fatalf("Protobuf of %+v is %q, %v: its length is wrong", e, frame, err)
	}
	var decoded protocol.Reply
	if err := decoded.UnmarshalVT(frame[n:]); err != nil {
		t.Fatalf("Protobuf of %+v is %q: %v", e, frame, err)
	}
	pub, due := decoded.GetPush().GetPub(), reply.Push.Pub
	if decoded.GetPush().GetChannel() != reply.Push.Channel || pub.GetOffset() != due.Offset || !bytes.Equal(pub.GetData(), due.Data) ||
		!reflect.DeepEqual(pub.GetTags(), due.Tags) || decoded.SizeVT() != reply.SizeVT() || int(size) != reply.SizeVT() {
		t.Errorf("Protobuf of %+v is %+v, want %+v", e, &decoded, reply)
	}
}

func TestEncode(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 60_000_000, time.FixedZone("", 3600))
	tests := map[string]push.Entry{
		"whole": {Channel: "#42", Offset: 3_600_000_000_000_000, Message: &push.Message{ID: "shop/1", Event: "order.shipped",
			Data: json.RawMessage(`{"a": [1, "x"]}`), CreatedAt: at, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
		"least":      {Channel: "c", Offset: 1, Message: &push.Message{ID: "x", Data: json.RawMessage(`0`)}},
		"characters": {Channel: "room \"\\é\u2028\x00\x1f\x7f", Offset: 2, Message: &push.Message{ID: "a\xff\"b", Event: "\n\t", Data: json.RawMessage(`"\u0000"`)}},
		"lines":      {Channel: "c", Offset: 3, Message: &push.Message{ID: "x", Data: json.RawMessage("{\n  \"a\": 1,\n\n \"b\": \"\\n\"\n}")}},
		"no JSON":    {Channel: "c", Offset: 3, Message: &push.Message{ID: "x", Data: json.RawMessage(`{`)}},
		"long":       {Channel: push.Channel(bytes.Repeat([]byte("c"), 200)), Offset: 1<<53 - 1, Message: &push.Message{ID: "x", Data: append(append([]byte{'"'}, bytes.Repeat([]byte("x"), 60<<10)...), '"')}},
	}
	for name, e := range tests {
		t.Run(name, func(t *testing.T) {
			if name == "characters" {
				e.Message.ID = "a\"b" // Protobuf takes no other text
			}
			compare(t, e)
		})
	}
	if got, _ := (&hub.Publication{Entry: push.Entry{Channel: "c", Offset: 1, Message: &push.Message{ID: "\xff", Data: json.RawMessage(`1`)}}}).JSON(); !json.Valid(got) || !bytes.Contains(got, []byte(`\ufffd`)) {
		t.Errorf("a text that is not UTF-8 became %q", got)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("#42", uint64(3_600_000_000_000_000), "shop/1", "order.shipped", "", []byte(`{"a":1}`), int64(1e18))
	f.Add("", uint64(0), "", "\x01\"\\", "\u2029", []byte("[\n]"), int64(-1))
	f.Add("c", uint64(1), "é", "", "t", []byte(`{`), int64(0))
	f.Fuzz(func(t *testing.T, channel string, offset uint64, id, event, trace string, data []byte, at int64) {
		for _, s := range []*string{&channel, &id, &event, &trace} {
			*s = string(bytes.ToValidUTF8([]byte(*s), nil)) // Collect lets nothing else pass
		}
		// An entry has a channel and an offset.
		compare(t, push.Entry{Channel: push.Channel("c" + channel), Offset: push.Offset(max(offset, 1)),
			Message: &push.Message{ID: push.MessageID(id), Event: event, Trace: trace, Data: data, CreatedAt: time.Unix(0, at)}})
	})
}
