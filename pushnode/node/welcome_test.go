package node

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/google/uuid"

	"pushcluster/shared/push"
)

// compareWelcome encodes w both ways and compares with what package protocol
// makes of it.
func compareWelcome(t *testing.T, w *welcome) {
	t.Helper()
	before := []byte("before ")
	got, err := w.appendJSON(before)
	want, wantErr := protocol.DefaultJsonReplyEncoder.Encode(w.reply())
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("JSON of %+v: %v; package protocol says %v", w, err, wantErr)
	}
	if err == nil {
		got, ok := bytes.CutPrefix(got, before)
		if !ok || bytes.ContainsRune(got, '\n') {
			t.Errorf("JSON of %+v is not behind what was there, or more than a line: %q", w, got)
		}
		var a, b any
		if err := json.Unmarshal(got, &a); err != nil {
			t.Fatalf("JSON of %+v is %q: %v", w, got, err)
		}
		if err := json.Unmarshal(want, &b); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("JSON of %+v is\n%s, want\n%s (%v)", w, got, want, err)
		}
	}
	packet, err := w.appendProtobuf(nil)
	size, n := binary.Uvarint(packet)
	if err != nil || n <= 0 || int(size) != len(packet)-n {
		t.Fatalf("Protobuf of %+v is %q, %v: its length is wrong", w, packet, err)
	}
	var decoded protocol.Reply
	if err := decoded.UnmarshalVT(packet[n:]); err != nil || decoded.Connect.GetClient() != w.client.String() {
		t.Errorf("Protobuf of %+v is %+v, %v", w, &decoded, err)
	}
}

func TestWelcome(t *testing.T) {
	entry := func(offset push.Offset, data string) push.Entry {
		return push.Entry{Offset: offset, Message: &push.Message{ID: "shop/1", Event: "order", Data: json.RawMessage(data), CreatedAt: time.Unix(1, 5)}}
	}
	tests := map[string]welcome{
		"usual": {command: 1, client: uuid.New(), version: "pushcluster", expires: true, ttl: 3600, ping: 25, epoch: "ABC",
			joins: []*join{{name: "#42", start: 3_600_000_000_000_000}, {name: "all"}}},
		"missed": {command: 7, client: uuid.New(), version: "v", ping: 25, epoch: "ABC",
			joins: []*join{{name: "#42", start: 5, missed: []push.Entry{entry(6, `{"a":1}`), entry(9, `2`)}, recovering: true, recovered: true}}},
		"missed nothing":   {command: 7, version: "v", epoch: "ABC", joins: []*join{{name: "#42", start: 5, recovering: true, recovered: true}}},
		"not recovered":    {command: 7, version: "v", epoch: "ABC", joins: []*join{{name: "#42", start: 5, recovering: true}}},
		"odd texts":        {command: 1<<32 - 1, version: "a\"\\\n", epoch: "\u2028", joins: []*join{{name: "#\"é"}}},
		"data in lines":    {command: 1, version: "v", epoch: "ABC", joins: []*join{{name: "#1", missed: []push.Entry{entry(1, "{\n \"a\":\n1}")}}}},
		"data is no JSON":  {command: 1, version: "v", epoch: "ABC", joins: []*join{{name: "#1", missed: []push.Entry{entry(1, `1`), entry(2, `{`)}}}},
		"data ends it all": {command: 1, version: "v", epoch: "ABC", joins: []*join{{name: "#1", missed: []push.Entry{entry(1, `{`)}}}},
	}
	for name, w := range tests {
		t.Run(name, func(t *testing.T) { compareWelcome(t, &w) })
	}
}

func FuzzWelcome(f *testing.F) {
	f.Add(uint32(1), "pushcluster", "ABC", "#42", uint64(5), []byte(`{"a":1}`), true, true, uint32(60))
	f.Add(uint32(0), "\x01", "\"", "é", uint64(0), []byte("[\n]"), false, true, uint32(0))
	f.Fuzz(func(t *testing.T, command uint32, version, epoch, name string, start uint64, data []byte, recovering, recovered bool, ttl uint32) {
		for _, s := range []*string{&version, &epoch, &name} {
			*s = string(bytes.ToValidUTF8([]byte(*s), nil))
		}
		j := &join{name: push.Channel(name), start: push.Offset(start), recovering: recovering, recovered: recovered}
		if json.Valid(data) { // what else becomes of it is for the table
			j.missed = []push.Entry{{Offset: 1, Message: &push.Message{ID: "x", Data: data, CreatedAt: time.Unix(0, 0)}}}
		}
		// Every command has an id, and every client a channel.
		compareWelcome(t, &welcome{command: max(command, 1), version: "v" + version, epoch: "e" + epoch, ttl: ttl, expires: ttl != 0, ping: ttl / 2, joins: []*join{j}})
	})
}

func BenchmarkWelcome(b *testing.B) {
	w := &welcome{command: 1, client: uuid.New(), version: "pushcluster", expires: true, ttl: 3600, ping: 25, epoch: "ABCDEFGHIJKL",
		joins: []*join{{name: "#1234", start: 3_600_000_000_000_000}, {name: "all", start: 3_600_000_000_000_000}}}
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		var packet []byte
		for b.Loop() {
			packet, _ = w.appendJSON(packet[:0])
		}
	})
	b.Run("package protocol", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = protocol.DefaultJsonReplyEncoder.Encode(w.reply())
		}
	})
}
