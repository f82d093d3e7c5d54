package collectfn

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"pushcluster/shared/push"
)

// FuzzIngest reads bodies and keys of a stranger. Whatever becomes a draft must
// be a message that everything behind Collect can carry.
func FuzzIngest(f *testing.F) {
	f.Add([]byte(`{"id":"a","to":{"users":["42"],"channels":["news"],"all":true},"data":{"a":[1,"\n"]},"event":"e","ttl":"1h","collapse_key":"c","deliver_at":"2030-02-01T00:00:00Z"}`), "")
	f.Add([]byte(`[{"to":{"all":true},"data":null},5,{"data":1},{"to":{"all":true},"data":1,"data":2}]`), `"k"`)
	f.Add([]byte("{\"to\":{\"all\":true},\"data\":\"\xff\"}"), "k")
	f.Add([]byte(`{"to":{"all":true},"data":[[[[]]]],"id":null}`), `"a\"b"`)
	f.Fuzz(func(t *testing.T, body []byte, header string) {
		key, err := parseIdempotencyKey([]string{header})
		if err != nil {
			key = ""
		}
		q := request{sender: "shop", key: key, trace: "t", now: start}
		var drafts []*draft
		if d, p := q.one(body); p == nil {
			drafts = append(drafts, d)
		} else if p.Status < 400 || p.Status >= 500 {
			t.Fatalf("one(%q) = %v, want a client's mistake", body, p)
		}
		batch, problems, p := q.batch(body)
		if p == nil && len(batch) != len(problems) {
			t.Fatalf("batch(%q) = %d drafts, %d problems", body, len(batch), len(problems))
		}
		for i, d := range batch {
			if (d == nil) == (problems[i] == nil) {
				t.Fatalf("batch(%q): item %d is %v and %v", body, i, d, problems[i])
			}
			if d != nil {
				drafts = append(drafts, d)
			}
		}
		for _, d := range drafts {
			checkDraft(t, body, d)
		}
	})
}

func checkDraft(t *testing.T, body []byte, d *draft) {
	t.Helper()
	if !json.Valid(d.Data) || !utf8.Valid(d.Data) || bytes.ContainsAny(d.Data, "\r\n") || len(d.Data) > push.MaxData {
		t.Fatalf("%q: data %q cannot be carried", body, d.Data)
	}
	if !utf8.ValidString(string(d.ID)) || len(d.ID) > push.MaxMessageID || d.To.IsZero() || !d.ExpiresAt.After(d.CreatedAt) {
		t.Fatalf("%q: message %+v is not whole", body, d.Message)
	}
	for _, c := range d.To.List() {
		if err := c.Check(); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
	}
	sent, err := json.Marshal(d.Message)
	if err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	var got push.Message
	if err := json.Unmarshal(sent, &got); err != nil || got.ID != d.ID || len(got.To.List()) != len(d.To.List()) {
		t.Fatalf("%q: %+v arrives as %+v (%v)", body, d.Message, got, err)
	}
	var compact bytes.Buffer
	if json.Compact(&compact, d.Data); !bytes.Equal(compact.Bytes(), d.Data) {
		t.Fatalf("%q: data %q is not compact", body, d.Data)
	}
	if once := canonical(d.Data); !bytes.Equal(canonical(once), once) {
		t.Fatalf("%q: the canonical form of %q has another canonical form", body, once)
	}
}
