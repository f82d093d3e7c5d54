package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hmacByHand is RFC 2104 step by step, so that the code under test is not its
// own witness.
func hmacByHand(newHash func() hash.Hash, key, text string) []byte {
	digest := func(parts ...[]byte) []byte {
		h := newHash()
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	block := make([]byte, newHash().BlockSize())
	if len(key) > len(block) {
		copy(block, digest([]byte(key)))
	} else {
		copy(block, key)
	}
	inner, outer := bytes.Clone(block), bytes.Clone(block)
	for i := range block {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	return digest(outer, digest(inner, []byte(text)))
}

func hexOf(newHash func() hash.Hash, key, text string) string {
	return hex.EncodeToString(hmacByHand(newHash, key, text))
}

func base64Of(newHash func() hash.Hash, key, text string) string {
	return base64.StdEncoding.EncodeToString(hmacByHand(newHash, key, text))
}

// A sender signs as one preset's sender does, in the test's own code.
type sender struct {
	secret, other string // what a receiver is set up with; other is a retired one
	body          string
	sign          func(secret string, at time.Time, body string) http.Header
	id            string // that the delivery should have; "" the hash of its body
}

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func standardSender(prefix string) sender {
	return sender{
		secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", other: "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("r", 24))),
		body: `{"type":"user.created","timestamp":"2026-09-21T12:00:00Z","data":{"id":"user_1"}}`,
		id:   "msg_2b",
		sign: func(secret string, at time.Time, body string) http.Header {
			key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
			return headers(prefix+"-id", "msg_2b", prefix+"-timestamp", fmt.Sprint(at.Unix()),
				prefix+"-signature", "v1,"+base64Of(sha256.New, string(key), fmt.Sprintf("msg_2b.%d.%s", at.Unix(), body)))
		},
	}
}

func bodySender(header, prefix, encoding, body, id string, more ...string) sender {
	return sender{
		secret: "the secret of today", other: "the secret of last year", body: body, id: id,
		sign: func(secret string, _ time.Time, body string) http.Header {
			text := hexOf(sha256.New, secret, body)
			if encoding == "base64" {
				text = base64Of(sha256.New, secret, body)
			}
			return headers(append(more, header, prefix+text)...)
		},
	}
}

func basicSender(body, id string) sender {
	return sender{
		secret: "push:sesame:with:colons", other: "push:old", body: body, id: id,
		sign: func(secret string, _ time.Time, _ string) http.Header {
			return headers("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(secret)))
		},
	}
}

func tokenSender(header, body, id string, more ...string) sender {
	return sender{
		secret: "token of today", other: "token of last year", body: body, id: id,
		sign: func(secret string, _ time.Time, _ string) http.Header {
			return headers(append(more, header, secret)...)
		},
	}
}

// ecdsaSender has two key pairs, named by their public halves.
func ecdsaSender(t testing.TB) sender {
	private := make(map[string]*ecdsa.PrivateKey)
	pair := func() string {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		name := base64.StdEncoding.EncodeToString(der)
		private[name] = key
		return name
	}
	return sender{
		secret: pair(), other: pair(), body: "[{\"email\":\"a@example.com\",\"event\":\"delivered\"}]\r\n",
		sign: func(secret string, at time.Time, body string) http.Header {
			sum := sha256.Sum256(fmt.Appendf(nil, "%d%s", at.Unix(), body))
			signature, err := ecdsa.SignASN1(rand.Reader, private[secret], sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return headers("X-Twilio-Email-Event-Webhook-Timestamp", fmt.Sprint(at.Unix()),
				"X-Twilio-Email-Event-Webhook-Signature", base64.StdEncoding.EncodeToString(signature))
		},
	}
}

// senders has one for every preset: TestPresets fails if one is missing.
func senders(t testing.TB) map[string]sender {
	stripe := sender{
		// Stripe's secrets look like those of Standard Webhooks, but are taken whole.
		secret: "whsec_d2hhdGV2ZXIgc3RyaXBlIHNheXM", other: "whsec_b2xk",
		body: `{"id":"evt_1","object":"event","type":"invoice.paid"}`, id: "evt_1",
		sign: func(secret string, at time.Time, body string) http.Header {
			return headers("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s,v0=%s", at.Unix(),
				hexOf(sha256.New, secret, fmt.Sprintf("%d.%s", at.Unix(), body)), strings.Repeat("0", 64)))
		},
	}
	paddle := sender{
		secret: "pdl_ntfset_today", other: "pdl_ntfset_old",
		body: `{"event_id":"evt_9","notification_id":"ntf_9","event_type":"transaction.paid"}`, id: "ntf_9",
		sign: func(secret string, at time.Time, body string) http.Header {
			return headers("Paddle-Signature", fmt.Sprintf("ts=%d;h1=%s", at.Unix(),
				hexOf(sha256.New, secret, fmt.Sprintf("%d:%s", at.Unix(), body))))
		},
	}
	elevenlabs := sender{
		secret: "wsec_today", other: "wsec_old", body: `{"type":"post_call_transcription","data":{}}`,
		sign: func(secret string, at time.Time, body string) http.Header {
			return headers("ElevenLabs-Signature", fmt.Sprintf("t=%d,v0=%s", at.Unix(),
				hexOf(sha256.New, secret, fmt.Sprintf("%d.%s", at.Unix(), body))))
		},
	}
	slack := sender{
		secret: "8f742231b10e8888abcd99yyyzzz85a5", other: "old",
		body: `{"type":"event_callback","event_id":"Ev1","event":{"type":"message"}}`, id: "Ev1",
		sign: func(secret string, at time.Time, body string) http.Header {
			return headers("X-Slack-Request-Timestamp", fmt.Sprint(at.Unix()),
				"X-Slack-Signature", "v0="+hexOf(sha256.New, secret, fmt.Sprintf("v0:%d:%s", at.Unix(), body)))
		},
	}
	webflow := sender{
		secret: "today", other: "old", body: `{"triggerType":"form_submission","payload":{}}`,
		sign: func(secret string, at time.Time, body string) http.Header {
			return headers("x-webflow-timestamp", fmt.Sprint(at.UnixMilli()),
				"x-webflow-signature", hexOf(sha256.New, secret, fmt.Sprintf("%d:%s", at.UnixMilli(), body)))
		},
	}
	vercel := sender{
		secret: "today", other: "old", body: `{"id":"uev_1","type":"deployment.succeeded"}`, id: "uev_1",
		sign: func(secret string, _ time.Time, body string) http.Header {
			return headers("x-vercel-signature", hexOf(sha1.New, secret, body))
		},
	}
	return map[string]sender{
		"standard": standardSender("webhook"), "openai": standardSender("webhook"),
		"replicate": standardSender("webhook"), "supabase": standardSender("webhook"),
		"svix": standardSender("svix"), "clerk": standardSender("svix"), "resend": standardSender("svix"),
		"stripe": stripe, "paddle": paddle, "elevenlabs": elevenlabs, "slack": slack, "webflow": webflow,
		"sendgrid": ecdsaSender(t), "vercel": vercel,
		"github": bodySender("X-Hub-Signature-256", "sha256=", "hex", `{"action":"opened"}`, "72d3162e-cc78-11e3-81ab-4c9367dc0958",
			"X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958", "X-GitHub-Event", "pull_request"),
		"shopify": bodySender("X-Shopify-Hmac-SHA256", "", "base64", `{"id":820982911946154508}`, "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
			"X-Shopify-Webhook-Id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043", "X-Shopify-Topic", "orders/create"),
		"cursor":   bodySender("X-Webhook-Signature", "sha256=", "hex", `{"event":"statusChange"}`, "wh-1", "X-Webhook-ID", "wh-1"),
		"hookdeck": bodySender("x-hookdeck-signature", "", "base64", `{"a":1}`, "evt_h", "x-hookdeck-eventid", "evt_h"),
		"woocommerce": bodySender("X-WC-Webhook-Signature", "", "base64", `{"id":1}`, "77",
			"X-WC-Webhook-Delivery-ID", "77"),
		"fusionauth": {
			secret: "fusionauth signing secret", other: "the one before this one", id: "e4ba6ccb-6c33-4d84-bd35-44c4a5b7b5b2",
			body: `{"event":{"id":"e4ba6ccb-6c33-4d84-bd35-44c4a5b7b5b2","type":"user.create","user":{"id":"42"}}}`,
			sign: func(secret string, _ time.Time, body string) http.Header {
				sum := sha256.Sum256([]byte(body))
				return headers("X-FusionAuth-Signature-JWT", tokenOf(secret, fmt.Sprintf(`{"request_body_sha256":%q}`, base64.StdEncoding.EncodeToString(sum[:]))))
			},
		},
		"gitlab":    tokenSender("X-Gitlab-Token", `{"object_kind":"push"}`, "f5e5f430", "Idempotency-Key", "f5e5f430"),
		"deepgram":  tokenSender("dg-token", `{"metadata":{}}`, ""),
		"postmark":  basicSender(`{"RecordType":"Bounce","ID":42}`, ""),
		"chargebee": basicSender(`{"id":"ev_1","event_type":"invoice_generated"}`, "ev_1"),
	}
}
