package collectfn

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// TestWebhookHeadersProveNothing: whoever saw a signed webhook may send its body
// once more under other headers. It stays the delivery that it was, and rules see
// nothing that its sender did not write.
func TestWebhookHeadersProveNothing(t *testing.T) {
	const structured = `{"specversion":"1.0","id":"1","source":"/s","type":"t","user":"42"}`
	const batch = `[{"specversion":"1.0","id":"1","source":"/s","type":"t","user":"42"},{"specversion":"1.0","id":"2","source":"/s","type":"t","user":"42"}]`
	binary := []string{"Ce-Specversion", "1.0", "Ce-Id", "another", "Ce-Source", "/s", "Ce-Type", "t", "Ce-User", "mallory"}
	tests := map[string]struct {
		body          string
		first, second []string
		status        int    // of the second
		want          string // in its answer
	}{
		"attributes in headers":         {`{"user":"42"}`, nil, binary, 400, "structured mode"},
		"attributes beside an event":    {structured, nil, binary, 400, "structured mode"},
		"an event that says so no more": {structured, []string{"Content-Type", structuredKind}, []string{"Content-Type", "application/json"}, 202, "first"},
		"an event that says so now":     {structured, []string{"Content-Type", "text/plain"}, []string{"Content-Type", structuredKind}, 202, "first"},
		"a batch that says so no more":  {batch, []string{"Content-Type", batchKind}, []string{"Content-Type", "application/json"}, 202, "first"},
		"attributes that do not count":  {structured, nil, append(slices.Clone(binary), "Content-Type", structuredKind), 202, "first"},
		"another type":                  {`{"user":"42"}`, []string{"Content-Type", "application/json"}, []string{"Content-Type", "application/x-www-form-urlencoded"}, 202, "first"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.load("sources: { site: { verify: vercel, secrets: secret, rules: { name: r, to: { users: body.user } } } }")
			post := func(headers []string) (int, string) {
				w := r.hook("site", tt.body, append([]string{"X-Vercel-Signature", vercelSignature("secret", tt.body)}, headers...)...)
				return w.Code, w.Body.String()
			}
			status, first := post(tt.first)
			if status != 202 || !strings.Contains(first, `"outcome":"accepted"`) {
				t.Fatalf("first answer = %d %s, want an accepted delivery", status, first)
			}
			want := strings.Replace(tt.want, "first", first, 1)
			if status, second := post(tt.second); status != tt.status || !strings.Contains(second, want) {
				t.Errorf("answer under other headers = %d %s, want %d with %q", status, second, tt.status, want)
			}
		})
	}
}

func vercelSignature(secret, body string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// TestWebhookCompressed: what is not read here is refused, and not sent on as
// the text that it is not.
func TestWebhookCompressed(t *testing.T) {
	tests := map[string]struct {
		coding string
		status int
		want   string
	}{
		"gzip":     {"gzip", 400, "compressed (Content-Encoding: gzip)"},
		"identity": {"Identity", 202, "accepted"},
		"charset":  {"UTF-8", 202, "accepted"},
		"none":     {"", 202, "accepted"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.load(sourcesFile)
			w := r.hook("plain", "\x1f\x8b\x08", "X-Gitlab-Token", "plain token", "Content-Encoding", tt.coding)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("answer = %d %s, want %d with %q", w.Code, w.Body, tt.status, tt.want)
			}
		})
	}
}

// TestBinaryEventHidesSecrets: an attribute whose header rules may not see is no
// field of the event either, now or when it is replayed.
func TestBinaryEventHidesSecrets(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	a := deliveryOf(t, r.hook("events", "", "X-Gitlab-Token", "events token", "ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s",
		"ce-type", "t", "ce-subject", "42", "ce-authtoken", "hidden"))
	if m, ok := r.stored(a.Messages[0].ID); !ok || strings.Contains(string(m.Data), "hidden") || !strings.Contains(string(m.Data), `"subject":"42"`) {
		t.Errorf("data = %s, want the event without authtoken", m.Data)
	}
}
