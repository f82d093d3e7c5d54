package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"
)

var (
	created = time.Date(2030, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	whole   = Message{ID: "shop/1", Event: "order.shipped", Data: json.RawMessage(`{"a":1}`), CollapseKey: "order", CreatedAt: created,
		ExpiresAt: created.Add(time.Hour), DeliverAt: created.Add(time.Minute), Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
)

func TestMessageInBinary(t *testing.T) {
	tests := map[string]Message{
		"whole":          whole,
		"empty":          {},
		"id alone":       {ID: "x"},
		"before 1970":    {ID: "x", CreatedAt: time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC)},
		"far away":       {ID: "x", ExpiresAt: time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)},
		"any characters": {ID: "a\x00\"\\,{", Event: "é\n", Data: json.RawMessage(`"{"`)},
	}
	for name, m := range tests {
		t.Run(name, func(t *testing.T) {
			var got Message
			if err := DecodeMessage(AppendMessage(nil, &m, true), &got); err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("%+v came back as %+v, %v", m, got, err)
			}
			bare := m
			bare.Data = nil
			if err := DecodeMessage(AppendMessage(nil, &m, false), &got); err != nil || !reflect.DeepEqual(got, bare) {
				t.Errorf("%+v without data came back as %+v, %v", m, got, err)
			}
		})
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(AppendMessage(nil, &whole, true))
	f.Add(AppendMessage(nil, &Message{ID: "x"}, false))
	f.Add([]byte{1, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again Message
		if err := DecodeMessage(b, &m); err != nil {
			if !errors.Is(err, ErrBinary) {
				t.Errorf("DecodeMessage(%q): %v, which is not ErrBinary", b, err)
			}
			return
		}
		if err := DecodeMessage(AppendMessage(nil, &m, true), &again); err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("DecodeMessage(%q) = %+v, and from what that is written as %+v, %v", b, m, again, err)
		}
	})
}

func batch() *DeliverRequest {
	return &DeliverRequest{Beat: true, Messages: []Message{whole, {ID: "y", Data: json.RawMessage(`2`)}}, Entries: []DeliverEntry{
		{Channel: "#42", Offset: 7, Prev: 3, Message: 0}, {Channel: "news", Offset: 1 << 52, Message: 1}, {Channel: "all", Offset: 9, Prev: 8, Message: 0}}}
}

func TestBatch(t *testing.T) {
	tests := map[string]*DeliverRequest{
		"whole":   batch(),
		"a beat":  {Beat: true},
		"nothing": {},
	}
	var used DeliverRequest // what it held before does not show
	if _, err := DecodeBatch(AppendBatch(nil, 1, batch())[partHead:], &used); err != nil {
		t.Fatal(err)
	}
	for name, req := range tests {
		t.Run(name, func(t *testing.T) {
			frame := AppendBatch(AppendBatch([]byte{}, 77, req), 78, &DeliverRequest{})
			part, rest, err := NextPart(frame)
			if err != nil {
				t.Fatal(err)
			}
			number, err := DecodeBatch(part, &used)
			same := used.Beat == req.Beat && len(used.Messages) == len(req.Messages) && len(used.Entries) == len(req.Entries)
			for i := range used.Messages {
				same = same && reflect.DeepEqual(used.Messages[i], req.Messages[i])
			}
			for i := range used.Entries {
				same = same && used.Entries[i] == req.Entries[i]
			}
			if err != nil || number != 77 || !same {
				t.Errorf("%+v came back as %d, %+v, %v", req, number, used, err)
			}
			if last, rest, err := NextPart(rest); err != nil || len(rest) != 0 || len(last) == 0 {
				t.Errorf("the second batch came back as %q, followed by %q, %v", last, rest, err)
			}
		})
	}
}

func FuzzBatch(f *testing.F) {
	f.Add(AppendBatch(nil, 1, batch())[partHead:])
	f.Add([]byte{1, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, b []byte) {
		var req, again DeliverRequest
		number, err := DecodeBatch(b, &req)
		if err != nil {
			if !errors.Is(err, ErrBinary) {
				t.Errorf("DecodeBatch(%q): %v, which is not ErrBinary", b, err)
			}
			return
		}
		for _, e := range req.Entries {
			if e.Message < 0 || e.Message >= len(req.Messages) || e.Prev > e.Offset {
				t.Errorf("DecodeBatch(%q) has entry %+v of %d messages", b, e, len(req.Messages))
			}
		}
		frame := AppendBatch(nil, number, &req)
		if n, err := DecodeBatch(frame[partHead:], &again); err != nil || n != number || !reflect.DeepEqual(req, again) {
			t.Errorf("DecodeBatch(%q) = %+v, and from what that is written as %+v, %v", b, req, again, err)
		}
	})
}

func TestBatchAnswer(t *testing.T) {
	tests := map[string]BatchAnswer{
		"taken":   {Number: 5},
		"unknown": {Number: 1 << 63, Unknown: []Channel{"#42", "news"}},
		"refused": {Number: 1, Code: CodeBadRequest, Detail: "no"},
	}
	for name, a := range tests {
		t.Run(name, func(t *testing.T) {
			part, rest, err := NextPart(AppendBatchAnswer(nil, &a))
			if err != nil || len(rest) != 0 {
				t.Fatalf("NextPart = %q, %q, %v", part, rest, err)
			}
			if got, err := DecodeBatchAnswer(part); err != nil || !reflect.DeepEqual(got, a) {
				t.Errorf("%+v came back as %+v, %v", a, got, err)
			}
		})
	}
}

func FuzzBatchAnswer(f *testing.F) {
	f.Add(AppendBatchAnswer(nil, &BatchAnswer{Number: 3, Unknown: []Channel{"#1"}}))
	f.Add(AppendBatchAnswer(nil, &BatchAnswer{Number: 3, Code: CodeBadRequest, Detail: "x"}))
	f.Add([]byte{0, 0, 0, 9, 1})
	f.Fuzz(func(t *testing.T, frame []byte) {
		part, rest, err := NextPart(frame)
		if err != nil {
			return
		}
		if len(part)+len(rest)+partHead != len(frame) {
			t.Errorf("NextPart(%q) = %q, %q", frame, part, rest)
		}
		a, err := DecodeBatchAnswer(part)
		if err != nil {
			return
		}
		if got, err := DecodeBatchAnswer(AppendBatchAnswer(nil, &a)[partHead:]); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("DecodeBatchAnswer(%q) = %+v, and from what that is written as %+v, %v", part, a, got, err)
		}
	})
}

// What a message was decoded to does not change with its bytes, except for data.
func TestDecodedTextsAreTheirOwn(t *testing.T) {
	m := AppendMessage(nil, &whole, true)
	var got Message
	if err := DecodeMessage(m, &got); err != nil {
		t.Fatal(err)
	}
	copy(m, bytes.Repeat([]byte{'x'}, len(m)))
	if got.ID != whole.ID || got.Event != whole.Event {
		t.Errorf("what was decoded became %+v", got)
	}
}

// A batch needs no memory but its own bytes and the request's slices.
func TestDecodeBatchNeedsNoMemory(t *testing.T) {
	part := AppendBatch(nil, 1, batch())[partHead:]
	var req DeliverRequest
	if allocs := testing.AllocsPerRun(100, func() {
		if _, err := DecodeBatch(part, &req); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("DecodeBatch allocates %v times", allocs)
	}
}

func BenchmarkDecodeBatch(b *testing.B) {
	req := DeliverRequest{Messages: make([]Message, 100), Entries: make([]DeliverEntry, 100)}
	for i := range req.Messages {
		req.Messages[i] = whole
		req.Entries[i] = DeliverEntry{Channel: "#12345", Offset: 3_600_000_000_000_000, Prev: 3_500_000_000_000_000, Message: i}
	}
	part := AppendBatch(nil, 1, &req)[partHead:]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeBatch(part, &req); err != nil {
			b.Fatal(err)
		}
	}
}
