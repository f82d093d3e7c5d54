package collectfn

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
)

// FuzzRevive reads what is kept of a delivery, which another version of this
// program may have written: it can be replayed, or is a conflict or a client's
// mistake, and is shown either way.
func FuzzRevive(f *testing.F) {
	f.Add([]byte(`{"headers":{"content-type":"application/json"},"size":2,"whole":true,"rules":[{"rule":"r","result":"made","message":"s/d/r"}]}`), []byte(`{}`))
	f.Add([]byte(`{"size":2,"whole":true,"event":true}`), []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t"}`))
	f.Add([]byte(`{"headers":{"content-type":"application/cloudevents-batch+json"},"whole":true}`), []byte(`[]`))
	f.Add([]byte(`{"whole":1}`), []byte(nil))
	scheme, _ := signature.Preset("gitlab")
	receiver, err := signature.NewReceiver(scheme, []string{"token"})
	if err != nil {
		f.Fatal(err)
	}
	src := &source.Source{Name: "s", Receiver: receiver}
	f.Fuzz(func(t *testing.T, detail, body []byte) {
		kept := store.Delivery{Source: "s", ID: "d", ReceivedAt: start, Until: start, Outcome: outcomeParked, Detail: detail, Body: body}
		d, e, p := revive(src, &kept)
		if p != nil && p.Code != push.CodeConflict && p.Code != push.CodeBadJSON && p.Code != push.CodeBadRequest && p.Code != push.CodeBodyTooLarge {
			t.Fatalf("revive(%q, %q) = %v", detail, body, p)
		}
		if p == nil && (e.id != "d" || d.in.Headers == nil || d.in.Query == nil) {
			t.Fatalf("revive(%q, %q) = %+v, %+v", detail, body, d, e)
		}
		read := detailOf(&kept)
		if shown := newKeptDelivery(&kept, &read); shown.ID != "d" || shown.Messages == nil {
			t.Fatalf("%q is shown as %+v", detail, shown)
		}
	})
}

// FuzzReadEvents reads bodies of a stranger, under every Content-Type. What
// becomes an event has an id that a message can have and a body that rules can
// read.
func FuzzReadEvents(f *testing.F) {
	kinds := []string{"application/json", "application/cloudevents+json", "application/cloudevents-batch+json",
		"application/x-www-form-urlencoded", "text/plain", "", "multipart/form-data; boundary=x", ";;"}
	f.Add(0, "", []byte(opened))
	f.Add(1, "", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":null}`))
	f.Add(2, "", []byte(`[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{}]`))
	f.Add(3, "", []byte("a=1&a=2&=%20&b"))
	f.Add(4, "1", []byte("\xff\x00"))
	scheme, _ := signature.Preset("gitlab")
	receiver, err := signature.NewReceiver(scheme, []string{"token"})
	if err != nil {
		f.Fatal(err)
	}
	c, err := rule.NewCompiler()
	if err != nil {
		f.Fatal(err)
	}
	all, err := c.Compile(rule.Spec{Name: "r", To: rule.To{All: "true"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, kind int, id string, body []byte) {
		h := http.Header{}
		h.Set("Content-Type", kinds[uint(kind)%uint(len(kinds))])
		if id != "" {
			for _, name := range []string{"ce-id", "ce-source", "ce-type", "ce-" + id} {
				h[http.CanonicalHeaderKey(name)] = []string{id}
			}
			h.Set("ce-specversion", "1.0")
			h.Set("Idempotency-Key", id)
		}
		events, _, p := readEvents(h, body, receiver)
		if p != nil {
			if p.Status < 400 || p.Status >= 500 {
				t.Fatalf("readEvents(%v, %q) = %v, want a client's mistake", h, body, p)
			}
			return
		}
		for _, e := range events {
			if e.id == "" || len(e.id) > 200 || !utf8.ValidString(e.id) || strings.ContainsAny(e.id, "\x00\n") {
				t.Fatalf("readEvents(%v, %q) makes the id %q", h, body, e.id)
			}
			if m, err := all.Eval(t.Context(), &rule.Input{Body: e.body}); err == nil {
				d := &delivery{source: &source.Source{Name: "s"}, in: rule.Input{ReceivedAt: start}, trace: "t"}
				made, p := draftOf(d, e, "r", m)
				if p != nil {
					t.Fatalf("readEvents(%v, %q) becomes no message: %v", h, body, p)
				}
				checkDraft(t, body, made)
			}
		}
	})
}
