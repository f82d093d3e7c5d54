package signature

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"testing"
	"time"
	"unicode/utf8"

	oracle "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// FuzzReceiver feeds every preset a stranger's headers and body. Nothing may
// pass that was not signed, and every refusal has a code.
func FuzzReceiver(f *testing.F) {
	now := time.Unix(1_790_000_000, 0)
	receivers := make(map[string]*Receiver)
	for name, s := range senders(f) {
		scheme, _ := Preset(name)
		r, err := NewReceiver(scheme, []string{s.secret})
		if err != nil {
			f.Fatal(err)
		}
		receivers[name] = r
		h := s.sign(s.other, now, s.body)
		id := ""
		if scheme.Timestamp != "" {
			id = h.Get(scheme.Timestamp)
		}
		f.Add(name, h.Get(scheme.Header), id, []byte(s.body))
	}
	f.Add("stripe", "t=,t=1,v1=,v1=zz,=,", "", []byte("{}"))
	f.Add("postmark", "Basic \xff", "", []byte("{}"))
	f.Fuzz(func(t *testing.T, name, header, aside string, body []byte) {
		r := receivers[name]
		if r == nil {
			return
		}
		scheme := r.Scheme()
		h := http.Header{}
		h.Set(scheme.Header, header)
		if scheme.Timestamp != "" {
			h.Set(scheme.Timestamp, aside)
		}
		_, err := r.Verify(h, body, now)
		switch {
		case err == nil:
			t.Fatalf("%s takes %q, %q, %q, which nobody signed", name, header, aside, body)
		case !errors.Is(err, ErrMissing) && !errors.Is(err, ErrSignature):
			t.Fatalf("%s: %v is none of its errors", name, err)
		case r.Problem(err).Status != 401:
			t.Fatalf("%s: %v becomes %v", name, err, r.Problem(err))
		}
		var value any = map[string]any{"id": header}
		if id := r.DeliveryID(h, body, value); id == "" || len(id) > maxDeliveryID || !utf8.ValidString(id) {
			t.Fatalf("%s: the id of %q is %q", name, header, id)
		}
	})
}

// FuzzReceiverOracle signs with the Standard Webhooks library and with
// [Signer]; the receiver and the library must agree on both.
func FuzzReceiverOracle(f *testing.F) {
	f.Add("msg_1", []byte(`{"a":1}`), bytes.Repeat([]byte("k"), 24))
	f.Add("a b", []byte{}, bytes.Repeat([]byte{0}, 64))
	scheme, _ := Preset("standard")
	f.Fuzz(func(t *testing.T, id string, body, secret []byte) {
		if len(secret) < minSecret || !validID(id) {
			return
		}
		text := "whsec_" + base64.StdEncoding.EncodeToString(secret)
		now := time.Now()
		theirs, err := oracle.NewWebhook(text)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := NewReceiver(scheme, []string{text})
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		if err := NewSigner(keysOf(t, text)).Sign(h, id, now, body); err != nil {
			t.Fatal(err)
		}
		signature, err := theirs.Sign(id, now, body)
		if err != nil {
			t.Fatal(err)
		}
		if signature != h.Get(HeaderSignature) {
			t.Errorf("we sign (%q, %q) as %s, the oracle as %s", id, body, h.Get(HeaderSignature), signature)
		}
		if _, err := ours.Verify(h, body, now); err != nil {
			t.Errorf("Verify(%q, %q) = %v, which the oracle takes", id, body, err)
		}
		altered := append(bytes.Clone(body), 'x')
		if _, err := ours.Verify(h, altered, now); !errors.Is(err, ErrSignature) {
			t.Errorf("Verify of an altered body = %v, want ErrSignature", err)
		}
	})
}

// FuzzScheme makes receivers of a stranger's description, as /v1/sources will.
func FuzzScheme(f *testing.F) {
	f.Add("X-Sig", "v1=", ",", "t=", "{timestamp}.{body}", "body:id", "hmac-sha256", "hex", "secret")
	f.Add("X-Sig", "", "", "", "{id}{body}", "header:X-Id", "ed25519", "base64", "whpk_"+base64.StdEncoding.EncodeToString(make([]byte, ed25519.PublicKeySize)))
	f.Add("", "", "", "", "{", "", "basic", "", "a:b")
	f.Fuzz(func(t *testing.T, header, prefix, separator, timestamp, template, id, algorithm, encoding, secret string) {
		s := Scheme{Header: header, Prefix: prefix, Separator: separator, Timestamp: timestamp, Template: template,
			ID: id, Algorithm: Algorithm(algorithm), Encoding: Encoding(encoding)}
		r, err := NewReceiver(s, []string{secret})
		if (s.Check() != nil) && err == nil {
			t.Fatalf("NewReceiver(%+v) takes what Check refuses: %v", s, s.Check())
		}
		if err != nil {
			return
		}
		h := http.Header{}
		h.Set(r.Scheme().Header, prefix+separator+prefix+"00"+separator+timestamp+"1790000000")
		if _, err := r.Verify(h, []byte("{}"), time.Unix(1_790_000_000, 0)); err == nil && r.Scheme().covers() {
			t.Fatalf("%+v takes what nobody signed", s)
		}
	})
}

func BenchmarkReceiver(b *testing.B) {
	now := time.Unix(1_790_000_000, 0)
	body := bytes.Repeat([]byte("x"), 4096)
	for _, name := range []string{"github", "stripe", "sendgrid", "gitlab"} {
		s := senders(b)[name]
		scheme, _ := Preset(name)
		r, err := NewReceiver(scheme, []string{s.secret})
		if err != nil {
			b.Fatal(err)
		}
		h := s.sign(s.secret, now, string(body))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Verify(h, body, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
