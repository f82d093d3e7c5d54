package signature

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestDeliveryID(t *testing.T) {
	tests := map[string]struct {
		id     string
		header http.Header
		body   string
		hashed string // what stands in is the hash of this; "" none
		want   string
	}{
		"header":            {"header:X-Id", headers("X-Id", "a/b"), `{}`, "", "a/b"},
		"header is absent":  {"header:X-Id", nil, `{}`, `{}`, ""},
		"header too long":   {"header:X-Id", headers("X-Id", strings.Repeat("x", 201)), `{}`, strings.Repeat("x", 201), ""},
		"header not UTF-8":  {"header:X-Id", headers("X-Id", "\xff"), `{}`, "\xff", ""},
		"control character": {"body:id", nil, `{"id":"a\u0000"}`, "a\x00", ""},
		"field":             {"body:a.b", nil, `{"a":{"b":"x"}}`, "", "x"},
		"field is absent":   {"body:a.b", nil, `{"a":"b"}`, `{"a":"b"}`, ""},
		"field is a list":   {"body:a", nil, `{"a":["b"]}`, `{"a":["b"]}`, ""},
		"not JSON":          {"body:a", nil, `a=b`, `a=b`, ""},
		"half a character":  {"body:id", nil, `{"id":"\ud800"}`, `{"id":"\ud800"}`, ""},
		"none":              {"", nil, `{}`, `{}`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := NewReceiver(Scheme{Header: "X-Sig", ID: tt.id}, []string{"s"})
			if err != nil {
				t.Fatal(err)
			}
			var value any
			if json.Unmarshal([]byte(tt.body), &value) != nil {
				value = nil
			}
			want := tt.want
			if tt.hashed != "" {
				want = fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(tt.hashed)))
			}
			if id := r.DeliveryID(tt.header, []byte(tt.body), value); id != want {
				t.Errorf("DeliveryID(%v, %s) = %q, want %q", tt.header, tt.body, id, want)
			}
		})
	}
}

func TestChallenge(t *testing.T) {
	tests := map[string]struct {
		preset, body string
		want         string
	}{
		"slack":              {"slack", `{"type":"url_verification","challenge":"abc","token":"x"}`, "abc"},
		"an ordinary event":  {"slack", `{"type":"event_callback","challenge":"abc"}`, ""},
		"without challenge":  {"slack", `{"type":"url_verification"}`, ""},
		"challenge a number": {"slack", `{"type":"url_verification","challenge":1}`, ""},
		"not slack":          {"github", `{"type":"url_verification","challenge":"abc"}`, ""},
		"no object":          {"slack", `[]`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			scheme, _ := Preset(tt.preset)
			r, err := NewReceiver(scheme, []string{"secret"})
			if err != nil {
				t.Fatal(err)
			}
			var value any
			if err := json.Unmarshal([]byte(tt.body), &value); err != nil {
				t.Fatal(err)
			}
			a, ok := r.Challenge(value)
			if ok != (tt.want != "") || string(a.Body) != tt.want || ok && a.Status != 200 {
				t.Errorf("Challenge(%s) = %d %q %v, want %q", tt.body, a.Status, a.Body, ok, tt.want)
			}
		})
	}
}

func TestHandshake(t *testing.T) {
	tests := map[string]struct {
		header    http.Header
		perMinute int
		rate      string // "": no answer
	}{
		"asked":           {headers("WebHook-Request-Origin", "events.example.com"), 0, "*"},
		"with a rate":     {headers("WebHook-Request-Origin", "events.example.com", "WebHook-Request-Rate", "1000"), 120, "120"},
		"not asked":       {nil, 0, ""},
		"origin of lines": {headers("WebHook-Request-Origin", "a\r\nb: c"), 0, ""},
		"origin too long": {headers("WebHook-Request-Origin", strings.Repeat("a", 256)), 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, ok := Handshake(tt.header, tt.perMinute)
			if ok != (tt.rate != "") || a.Header.Get("WebHook-Allowed-Rate") != tt.rate ||
				ok && a.Header.Get("WebHook-Allowed-Origin") != "events.example.com" {
				t.Errorf("Handshake(%v) = %v %v, want rate %q", tt.header, a, ok, tt.rate)
			}
		})
	}
}
