package authfn

import (
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/token"
)

func TestAuthorize(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	clock := func() time.Time { return now }
	keys, err := token.ParseKeys("k1:HS256:" + tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	verifier, err := token.NewVerifier(token.Config{Keys: keys}, http.DefaultClient, clock, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	minter, err := token.NewMinter(token.Config{Keys: keys}, clock)
	if err != nil {
		t.Fatal(err)
	}
	signing, err := signature.ParseKeys([]string{signingSecret})
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{Callers: signature.NewVerifier(signature.VerifierConfig{}, signing)}, verifier, minter, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	minted, _, err := minter.Mint(token.Grant{User: "42", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	known, err := h.Authorize(t.Context(), minted)
	if err != nil || known["user"] != "42" || known["expires_at"] != now.Add(time.Hour).UTC().Format(time.RFC3339) || known["jti"] == "" {
		t.Errorf("Authorize = %v, %v, want user 42 for an hour", known, err)
	}
	for name, presented := range map[string]string{"empty": "", "garbage": "x.y.z", "changed": minted + "x"} {
		if _, err := h.Authorize(t.Context(), presented); !errors.Is(err, serve.ErrRefused) {
			t.Errorf("Authorize of one that is %s = %v, want ErrRefused", name, err)
		}
	}
	now = now.Add(2 * time.Hour)
	if _, err := h.Authorize(t.Context(), minted); !errors.Is(err, serve.ErrRefused) {
		t.Errorf("Authorize of an expired token = %v, want ErrRefused", err)
	}
}
