package signature

import (
	"maps"
	"slices"
	"time"
)

// Preset returns the scheme of a well-known sender.
func Preset(name string) (Scheme, bool) {
	for _, p := range presets() {
		if p.name == name {
			return p.scheme.WithDefaults(), true
		}
	}
	return Scheme{}, false
}

// Presets returns the names of all presets, sorted.
func Presets() []string {
	names := make(map[string]bool)
	for _, p := range presets() {
		names[p.name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

type preset struct {
	name   string
	scheme Scheme
}

// standard returns the scheme of Standard Webhooks with headers that begin with
// prefix.
func standard(prefix string) Scheme {
	return Scheme{Header: prefix + "-signature", Separator: " ", Encoding: Base64,
		Timestamp: prefix + "-timestamp", Template: "{id}.{timestamp}.{body}",
		ID: "header:" + prefix + "-id", standard: true}
}

// presets is the table of senders, in the order of the documentation. What is
// not said is the default: HMAC-SHA-256 in hexadecimal of the body alone.
func presets() []preset {
	return []preset{
		// Standard Webhooks 1.0.0, and who signs by it.
		{"standard", standard("webhook")},
		{"openai", standard("webhook")},
		{"replicate", standard("webhook")},
		{"supabase", standard("webhook")},
		{"svix", standard("svix")},
		{"clerk", standard("svix")},
		{"resend", standard("svix")},

		// The signature and its time share a header.
		{"stripe", Scheme{Header: "Stripe-Signature", Separator: ",", Prefix: "v1=",
			Timestamp: "t=", Template: "{timestamp}.{body}", ID: "body:id"}},
		{"paddle", Scheme{Header: "Paddle-Signature", Separator: ";", Prefix: "h1=",
			Timestamp: "ts=", Template: "{timestamp}:{body}", ID: "body:notification_id"}},
		{"elevenlabs", Scheme{Header: "ElevenLabs-Signature", Separator: ",", Prefix: "v0=",
			Timestamp: "t=", Template: "{timestamp}.{body}", Tolerance: 30 * time.Minute}},

		// The time has a header of its own.
		{"slack", Scheme{Header: "X-Slack-Signature", Prefix: "v0=", Timestamp: "X-Slack-Request-Timestamp",
			Template: "v0:{timestamp}:{body}", ID: "body:event_id", slack: true}},
		{"webflow", Scheme{Header: "x-webflow-signature", Timestamp: "x-webflow-timestamp",
			Template: "{timestamp}:{body}"}},
		{"sendgrid", Scheme{Header: "X-Twilio-Email-Event-Webhook-Signature", Encoding: Base64, Algorithm: ECDSASHA256,
			Timestamp: "X-Twilio-Email-Event-Webhook-Timestamp", Template: "{timestamp}{body}"}},

		// A JSON Web Token holds the body's hash, and may hold times.
		{"fusionauth", Scheme{Header: "X-FusionAuth-Signature-JWT", ID: "body:event.id", bodyToken: true}},

		// No time is signed.
		{"github", Scheme{Header: "X-Hub-Signature-256", Prefix: "sha256=", ID: "header:X-GitHub-Delivery"}},
		{"shopify", Scheme{Header: "X-Shopify-Hmac-SHA256", Encoding: Base64, ID: "header:X-Shopify-Webhook-Id"}},
		{"cursor", Scheme{Header: "X-Webhook-Signature", Prefix: "sha256=", ID: "header:X-Webhook-ID"}},
		{"hookdeck", Scheme{Header: "x-hookdeck-signature", Encoding: Base64, ID: "header:x-hookdeck-eventid"}},
		{"woocommerce", Scheme{Header: "X-WC-Webhook-Signature", Encoding: Base64, ID: "header:X-WC-Webhook-Delivery-ID"}},
		{"vercel", Scheme{Header: "x-vercel-signature", Algorithm: HMACSHA1, ID: "body:id"}},

		// Nothing is signed: whoever knows the secret may send anything.
		{"gitlab", Scheme{Header: "X-Gitlab-Token", Algorithm: SharedToken, ID: "header:Idempotency-Key"}},
		{"deepgram", Scheme{Header: "dg-token", Algorithm: SharedToken}},
		{"postmark", Scheme{Algorithm: BasicAuth}},
		{"chargebee", Scheme{Algorithm: BasicAuth, ID: "body:id"}},
	}
}
