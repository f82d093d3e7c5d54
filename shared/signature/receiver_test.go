package signature

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
)

// TestPresets plays every sender: its delivery passes, and each way to spoil it
// is refused with its own code.
func TestPresets(t *testing.T) {
	all := senders(t)
	now := time.Unix(1_790_000_000, 0)
	for _, name := range Presets() {
		t.Run(name, func(t *testing.T) {
			s, ok := all[name]
			if !ok {
				t.Fatalf("the test has no sender for the preset %q", name)
			}
			scheme, _ := Preset(name)
			r, err := NewReceiver(scheme, []string{s.secret})
			if err != nil {
				t.Fatal(err)
			}
			proof, far := scheme.Proves(), scheme.Tolerance+time.Second
			late, early := error(nil), error(nil)
			if proof.Time {
				late, early = ErrTooOld, ErrTooNew
			}
			altered := error(nil)
			if proof.Body {
				altered = ErrSignature
			}
			good := s.sign(s.secret, now, s.body)
			tests := map[string]struct {
				header http.Header
				body   string
				want   error
				code   push.Code
			}{
				"genuine":        {good, s.body, nil, ""},
				"in time":        {s.sign(s.secret, now.Add(-scheme.Tolerance), s.body), s.body, nil, ""},
				"unsigned":       {without(good, scheme.Header), s.body, ErrMissing, push.CodeSignatureMissing},
				"retired secret": {s.sign(s.other, now, s.body), s.body, ErrSignature, push.CodeSignatureInvalid},
				"altered":        {good, flip(s.body), altered, push.CodeSignatureInvalid},
				"late":           {s.sign(s.secret, now.Add(-far), s.body), s.body, late, push.CodeSignatureStale},
				"early":          {s.sign(s.secret, now.Add(far), s.body), s.body, early, push.CodeSignatureEarly},
			}
			for name, tt := range tests {
				at, err := r.Verify(tt.header, []byte(tt.body), now)
				if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Errorf("%s: Verify(%v) = %v, want %v", name, tt.header, err, tt.want)
				}
				if err != nil && r.Problem(err).Code != tt.code {
					t.Errorf("%s: its code is %s, want %s", name, r.Problem(err).Code, tt.code)
				}
				if err == nil && at.IsZero() == proof.Time {
					t.Errorf("%s: signed at %s, though the scheme proves %+v", name, at, proof)
				}
			}
			var value any
			if err := json.Unmarshal([]byte(s.body), &value); err != nil {
				t.Fatal(err)
			}
			want := s.id
			if want == "" {
				want = fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(s.body)))
			}
			if id := r.DeliveryID(good, []byte(s.body), value); id != want {
				t.Errorf("DeliveryID = %q, want %q", id, want)
			}
		})
	}
}

// without returns h without one header.
func without(h http.Header, name string) http.Header {
	h = h.Clone()
	h.Del(name)
	return h
}

// flip changes one bit in the middle.
func flip(body string) string {
	b := []byte(body)
	b[len(b)/2] ^= 1
	return string(b)
}

// TestRotation: the new secret and the old one, at the receiver and, where the
// header can hold several signatures, at the sender.
func TestRotation(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	for name, s := range senders(t) {
		t.Run(name, func(t *testing.T) {
			scheme, _ := Preset(name)
			r, err := NewReceiver(scheme, []string{s.secret, s.other})
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{s.secret, s.other} {
				if _, err := r.Verify(s.sign(secret, now, s.body), []byte(s.body), now); err != nil {
					t.Errorf("Verify with one of two secrets = %v", err)
				}
			}
			if scheme.Separator == "" {
				return
			}
			r, err = NewReceiver(scheme, []string{s.other})
			if err != nil {
				t.Fatal(err)
			}
			h := s.sign(s.secret, now, s.body)
			old := s.sign(s.other, now, s.body).Get(scheme.Header)
			if _, after, ok := strings.Cut(old, scheme.Separator); ok {
				old = after // the time is there once
			}
			h.Set(scheme.Header, h.Get(scheme.Header)+scheme.Separator+old)
			if _, err := r.Verify(h, []byte(s.body), now); err != nil {
				t.Errorf("Verify of two signatures (%s) = %v", h.Get(scheme.Header), err)
			}
		})
	}
}

// TestPublished takes the examples that senders have published.
func TestPublished(t *testing.T) {
	tests := map[string]struct {
		preset, secret string
		header         http.Header
		body           string
		at             int64
	}{
		"github": {"github", "It's a Secret to Everybody",
			headers("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"),
			"Hello, World!", 0},
		"slack": {"slack", "8f742231b10e8888abcd99yyyzzz85a5",
			headers("X-Slack-Request-Timestamp", "1531420618", "X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
			"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
			1531420618},
		"svix": {"svix", "whsec_plJ3nmyCDGBKInavdOK15jsl",
			headers("svix-id", "msg_loFOjxBNrRLzqYUf", "svix-timestamp", "1731705121", "svix-signature", "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="),
			`{"event_type":"ping","data":{"success":true}}`, 1731705121},
		"standard": {"standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
			headers("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp", "1614265330", "webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
			`{"test": 2432232314}`, 1614265330},
		"sendgrid": {"sendgrid", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
			headers("X-Twilio-Email-Event-Webhook-Timestamp", "1600112502",
				"X-Twilio-Email-Event-Webhook-Signature", "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="),
			`[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA","sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0","smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]` + "\r\n",
			1600112502},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			scheme, _ := Preset(tt.preset)
			r, err := NewReceiver(scheme, []string{tt.secret})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Verify(tt.header, []byte(tt.body), time.Unix(tt.at, 0)); err != nil {
				t.Errorf("Verify = %v", err)
			}
		})
	}
}

// TestCustom plays senders that users describe themselves.
func TestCustom(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	rfc := now.UTC().Format(time.RFC3339Nano)
	body := `{"meta":{"n":9007199254740993}}`
	tests := map[string]struct {
		scheme Scheme
		secret string
		header http.Header
		id     string
		want   error
	}{
		"sha512 in base64": {Scheme{Header: "X-Sig", Algorithm: HMACSHA512, Encoding: Base64, ID: "body:meta.n"}, "s",
			headers("X-Sig", base64Of(sha512.New, "s", body)), "9007199254740993", nil},
		"upper case hex": {Scheme{Header: "X-Sig"}, "s", headers("X-Sig", strings.ToUpper(hexOf(sha256.New, "s", body))), "", nil},
		"not hex":        {Scheme{Header: "X-Sig"}, "s", headers("X-Sig", "zz"), "", ErrSignature},
		"no prefix":      {Scheme{Header: "X-Sig", Prefix: "sha256="}, "s", headers("X-Sig", hexOf(sha256.New, "s", body)), "", ErrMissing},
		"RFC 3339 time": {Scheme{Header: "X-Sig", Timestamp: "X-Time", Template: "{id}{timestamp}{body}", ID: "header:X-Id"}, "s",
			headers("X-Id", "i", "X-Time", rfc, "X-Sig", hexOf(sha256.New, "s", "i"+rfc+body)), "i", nil},
		"no id": {Scheme{Header: "X-Sig", Template: "{id}.{body}", ID: "header:X-Id"}, "s",
			headers("X-Sig", hexOf(sha256.New, "s", "."+body)), "", ErrMissing},
		"time twice": {Scheme{Header: "X-Sig", Separator: ",", Prefix: "v=", Timestamp: "t=", Template: "{timestamp}.{body}"}, "s",
			headers("X-Sig", "t=1790000000,t=1790000001,v="+hexOf(sha256.New, "s", "1790000000."+body)), "", ErrMissing},
		"time with a sign": {Scheme{Header: "X-Sig", Separator: ",", Prefix: "v=", Timestamp: "t=", Template: "{timestamp}.{body}"}, "s",
			headers("X-Sig", "t=+1790000000,v="+hexOf(sha256.New, "s", "+1790000000."+body)), "", ErrMissing},
		"ed25519, hex": {Scheme{Header: "X-Sig", Algorithm: Ed25519, Timestamp: "X-Time", Template: "{timestamp}{body}"}, hex.EncodeToString(public),
			headers("X-Time", "1790000000", "X-Sig", hex.EncodeToString(ed25519.Sign(private, []byte("1790000000"+body)))), "", nil},
		"ed25519, PEM": {Scheme{Header: "X-Sig", Algorithm: Ed25519, Encoding: Base64},
			string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
			headers("X-Sig", base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte(body)))), "", nil},
		"ed25519, altered": {Scheme{Header: "X-Sig", Algorithm: Ed25519, Encoding: Base64}, "whpk_" + base64.StdEncoding.EncodeToString(public),
			headers("X-Sig", base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte(body+" ")))), "", ErrSignature},
		"standard, v1a beside v1": {standard("webhook"), "whpk_" + base64.StdEncoding.EncodeToString(public),
			headers("webhook-id", "i", "webhook-timestamp", "1790000000", "webhook-signature",
				"v1,AAAA v1a,"+base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte("i.1790000000."+body)))), "i", nil},
		"standard, an HMAC by the public key": {standard("webhook"), "whpk_" + base64.StdEncoding.EncodeToString(public),
			headers("webhook-id", "i", "webhook-timestamp", "1790000000", "webhook-signature",
				"v1,"+base64Of(sha256.New, string(public), "i.1790000000."+body)), "", ErrSignature},
		"bearer token":         {Scheme{Header: "Authorization", Prefix: "Bearer ", Algorithm: SharedToken}, "sesame", headers("Authorization", "Bearer sesame"), "", nil},
		"token, longer":        {Scheme{Header: "X-Token", Algorithm: SharedToken}, "sesame", headers("X-Token", "sesame2"), "", ErrSignature},
		"basic, lower case":    {Scheme{Algorithm: BasicAuth}, "a:b", headers("Authorization", "basic YTpi"), "", nil},
		"basic, not base64":    {Scheme{Algorithm: BasicAuth}, "a:b", headers("Authorization", "Basic a:b"), "", ErrMissing},
		"basic, bearer":        {Scheme{Algorithm: BasicAuth}, "a:b", headers("Authorization", "Bearer YTpi"), "", ErrMissing},
		"header of a megabyte": {Scheme{Header: "X-Sig"}, "s", headers("X-Sig", strings.Repeat("a", 1<<20)), "", ErrMissing},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := NewReceiver(tt.scheme, []string{tt.secret})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Verify(tt.header, []byte(body), now); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("Verify = %v, want %v", err, tt.want)
			}
			var value any
			dec := json.NewDecoder(strings.NewReader(body))
			dec.UseNumber()
			if err := dec.Decode(&value); err != nil {
				t.Fatal(err)
			}
			if id := r.DeliveryID(tt.header, []byte(body), value); tt.id != "" && id != tt.id {
				t.Errorf("DeliveryID = %q, want %q", id, tt.id)
			}
		})
	}
}
