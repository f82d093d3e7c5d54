package signature

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	oracle "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	secretA = "an old secret of enough bytes"
	secretB = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretC = "a stranger's secret, long enough"
)

func keysOf(t testing.TB, secrets ...string) Keys {
	t.Helper()
	k, err := ParseKeys(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVerify(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	body := []byte(`{"user":"42"}`)
	sign := func(at time.Time, secrets ...string) http.Header {
		h := http.Header{}
		if err := NewSigner(keysOf(t, secrets...)).Sign(h, "req_1", at, body); err != nil {
			t.Fatal(err)
		}
		return h
	}
	with := func(h http.Header, change func(http.Header)) http.Header {
		change(h)
		return h
	}
	tests := map[string]struct {
		header http.Header
		body   []byte
		want   error
	}{
		"fresh":                {sign(now, secretA), body, nil},
		"newest secret":        {sign(now, secretB), body, nil},
		"both":                 {sign(now, secretB, secretA), body, nil},
		"one of them unknown":  {sign(now, secretC, secretA), body, nil},
		"at the edge":          {sign(now.Add(-5*time.Minute), secretA), body, nil},
		"late":                 {sign(now.Add(-5*time.Minute-time.Second), secretA), body, ErrStale},
		"early":                {sign(now.Add(5*time.Minute+time.Second), secretA), body, ErrStale},
		"wrong secret":         {sign(now, secretC), body, ErrSignature},
		"late and wrong":       {sign(now.Add(-time.Hour), secretC), body, ErrSignature},
		"body altered":         {sign(now, secretA), []byte(`{"user":"43"}`), ErrSignature},
		"body cut":             {sign(now, secretA), body[:5], ErrSignature},
		"unsigned":             {http.Header{}, body, ErrMissing},
		"no id":                {with(sign(now, secretA), func(h http.Header) { h.Del(HeaderID) }), body, ErrMissing},
		"no timestamp":         {with(sign(now, secretA), func(h http.Header) { h.Del(HeaderTimestamp) }), body, ErrMissing},
		"no signature":         {with(sign(now, secretA), func(h http.Header) { h.Del(HeaderSignature) }), body, ErrMissing},
		"two ids":              {with(sign(now, secretA), func(h http.Header) { h.Add(HeaderID, "req_2") }), body, ErrMissing},
		"id altered":           {with(sign(now, secretA), func(h http.Header) { h.Set(HeaderID, "req_2") }), body, ErrSignature},
		"id with a dot":        {with(sign(now, secretA), func(h http.Header) { h.Set(HeaderID, "req.1") }), body, ErrMissing},
		"timestamp altered":    {with(sign(now, secretA), func(h http.Header) { h.Set(HeaderTimestamp, "1790000001") }), body, ErrSignature},
		"timestamp not plain":  {with(sign(now, secretA), func(h http.Header) { h.Set(HeaderTimestamp, "+1790000000") }), body, ErrMissing},
		"timestamp no number":  {with(sign(now, secretA), func(h http.Header) { h.Set(HeaderTimestamp, "today") }), body, ErrMissing},
		"other version":        {with(sign(now, secretA), func(h http.Header) { h.Set(HeaderSignature, "v2"+h.Get(HeaderSignature)[2:]) }), body, ErrSignature},
		"the right one is 2nd": {with(sign(now, secretA), func(h http.Header) { h.Set(HeaderSignature, "v1a,x v1,"+" "+h.Get(HeaderSignature)) }), body, nil},
		"the right one is 99th": {with(sign(now, secretA), func(h http.Header) {
			h.Set(HeaderSignature, strings.Repeat("v1,x ", 98)+h.Get(HeaderSignature))
		}), body, ErrSignature},
		"huge header": {with(sign(now, secretA), func(h http.Header) { h.Add(HeaderSignature, strings.Repeat("x", 1<<20)) }), body, nil},
	}
	v := NewVerifier(VerifierConfig{}, keysOf(t, secretB, secretA))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			stamp, err := v.Verify(tt.header, tt.body, now)
			if !errors.Is(err, tt.want) {
				t.Fatalf("Verify(%v) = %v, want %v", tt.header, err, tt.want)
			}
			if err == nil && stamp.ID != "req_1" {
				t.Errorf("Verify vouches for %+v, want id req_1", stamp)
			}
		})
	}
}

func TestParseKeys(t *testing.T) {
	tests := map[string]struct {
		secrets []string
		err     string
	}{
		"raw":             {[]string{secretA}, ""},
		"base64":          {[]string{secretB}, ""},
		"padded base64":   {[]string{"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 25))}, ""},
		"none":            {nil, "there is no signing secret"},
		"short":           {[]string{secretA, "sesame"}, "signing secret 2 is 6 bytes long"},
		"short in base64": {[]string{"whsec_c2VzYW1l"}, "signing secret 1 is 6 bytes long"},
		"not base64":      {[]string{"whsec_sesame, sesame, sesame!!"}, "not base64"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseKeys(tt.secrets)
			if (err != nil) != (tt.err != "") || (err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "sesame"))) {
				t.Errorf("ParseKeys(%q) = %v, want %q and no secret told", tt.secrets, err, tt.err)
			}
		})
	}
}

// FuzzOracle signs with one library and verifies with the other, both ways.
func FuzzOracle(f *testing.F) {
	f.Add("msg_1", []byte(`{"a":1}`), bytes.Repeat([]byte("k"), 24))
	f.Add("a b", []byte{}, bytes.Repeat([]byte{0}, 64))
	f.Add("a.b", []byte("\xff"), bytes.Repeat([]byte{0xff}, 32))
	f.Fuzz(func(t *testing.T, id string, body, secret []byte) {
		if len(secret) < minSecret {
			return
		}
		now := time.Now()
		keys := keysOf(t, "whsec_"+base64.StdEncoding.EncodeToString(secret))
		theirs, err := oracle.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString(secret))
		if err != nil {
			t.Fatal(err)
		}
		ours := http.Header{}
		if err := NewSigner(keys).Sign(ours, id, now, body); err != nil {
			if validID(id) {
				t.Fatalf("Sign(%q) = %v", id, err)
			}
			return
		}
		if err := theirs.Verify(body, ours); err != nil {
			t.Errorf("the oracle refuses our signature of (%q, %q): %v", id, body, err)
		}
		signature, err := theirs.Sign(id, now, body)
		if err != nil {
			t.Fatal(err)
		}
		h := ours.Clone()
		h.Set(HeaderSignature, signature)
		if _, err := NewVerifier(VerifierConfig{}, keys).Verify(h, body, now); err != nil {
			t.Errorf("we refuse the oracle's signature of (%q, %q): %v", id, body, err)
		}
		altered := append(bytes.Clone(body), 'x')
		if err := theirs.Verify(altered, ours); err == nil {
			t.Error("the oracle takes an altered body")
		}
		if _, err := NewVerifier(VerifierConfig{}, keys).Verify(h, altered, now); !errors.Is(err, ErrSignature) {
			t.Errorf("Verify of an altered body = %v, want ErrSignature", err)
		}
	})
}

// FuzzVerify feeds headers of a stranger: whatever we take, the oracle takes.
func FuzzVerify(f *testing.F) {
	body := []byte(`{"a":1}`)
	keys := keysOf(f, secretB)
	now := time.Now()
	good := http.Header{}
	if err := NewSigner(keys).Sign(good, "req_1", now, body); err != nil {
		f.Fatal(err)
	}
	f.Add("req_1", good.Get(HeaderTimestamp), good.Get(HeaderSignature))
	f.Add("req_1", "", "v1,")
	f.Add("", "0", "v1 v1,, ,v1")
	theirs, err := oracle.NewWebhook(secretB)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, timestamp, signatures string) {
		h := http.Header{}
		h.Set(HeaderID, id)
		h.Set(HeaderTimestamp, timestamp)
		h.Set(HeaderSignature, signatures)
		if _, err := NewVerifier(VerifierConfig{}, keys).Verify(h, body, now); err != nil {
			return
		}
		if err := theirs.VerifyIgnoringTimestamp(body, h); err != nil {
			t.Fatalf("Verify(%q, %q, %q) takes what the oracle refuses: %v", id, timestamp, signatures, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	now := time.Now()
	keys := keysOf(b, secretB, secretA)
	body := bytes.Repeat([]byte("x"), 2048)
	h := http.Header{}
	if err := NewSigner(keys).Sign(h, "req_1", now, body); err != nil {
		b.Fatal(err)
	}
	v := NewVerifier(VerifierConfig{}, keys)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(h, body, now); err != nil {
			b.Fatal(err)
		}
	}
}
