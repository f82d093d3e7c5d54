package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
)

func TestMintAndVerify(t *testing.T) {
	entries := map[string]string{}
	for alg, key := range pairs() {
		entries[alg] = "k:" + alg + ":" + privateDER(t, key)
	}
	for _, alg := range hmacAlgs {
		entries[alg] = "k:" + alg + ":" + secret
	}
	for alg, entry := range entries {
		t.Run(alg, func(t *testing.T) {
			cfg := Config{Keys: keys(t, entry), Issuer: "us", Audience: "push"}
			m, err := NewMinter(cfg, atMoment)
			if err != nil {
				t.Fatal(err)
			}
			text, expiresAt, err := m.Mint(Grant{
				User: "42", TTL: time.Minute, Channels: []push.Channel{"news"},
				Topics: []string{"room:*"}, Info: json.RawMessage(`{"a":1}`),
			})
			if err != nil {
				t.Fatalf("Mint: %v", err)
			}
			got, err := verifier(t, cfg).Verify(t.Context(), text)
			if err != nil {
				t.Fatalf("Verify(%s) = %v", text, err)
			}
			if got.TokenID == "" {
				t.Error("the token has no id")
			}
			got.TokenID = ""
			want := push.Identity{
				User: "42", ExpiresAt: moment.Add(time.Minute), IssuedAt: moment, Channels: []push.Channel{"news"},
				Topics: []string{"room:*"}, Info: json.RawMessage(`{"a":1}`),
			}
			if !reflect.DeepEqual(got, want) || !expiresAt.Equal(want.ExpiresAt) {
				t.Errorf("Verify(Mint) = %+v, expiring %s, want %+v", got, expiresAt, want)
			}
		})
	}
}

func TestMintTakesTheNewestKeyThatSigns(t *testing.T) {
	young := "young:RS256:" + oneLine(publicPEM(t, pairs()["RS256"]))
	m, err := NewMinter(Config{Keys: keys(t, young+",mid:HS256:"+secret+",old:HS512:"+secret)}, atMoment)
	if err != nil {
		t.Fatal(err)
	}
	if m.key.ID != "mid" {
		t.Errorf("signs with %s, want mid", m.key)
	}
	if _, err := NewMinter(Config{Keys: keys(t, young)}, atMoment); !errors.Is(err, ErrNoKey) {
		t.Errorf("NewMinter with a public key alone = %v, want ErrNoKey", err)
	}
}

func TestMintRefuses(t *testing.T) {
	m, err := NewMinter(Config{Keys: keys(t, ":HS256:"+secret)}, atMoment)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]push.Channel, MaxChannels+1)
	for i := range many {
		many[i] = push.Channel(fmt.Sprint("t", i))
	}
	tests := map[string]struct {
		grant Grant
		want  string
	}{
		"no user":         {Grant{}, "user is empty"},
		"bad user":        {Grant{User: "a*"}, "user"},
		"ttl too short":   {Grant{User: "42", TTL: time.Millisecond}, "ttl"},
		"ttl negative":    {Grant{User: "42", TTL: -time.Hour}, "ttl"},
		"ttl too long":    {Grant{User: "42", TTL: MaxTTL + 1}, "ttl"},
		"bad channel":     {Grant{User: "42", Channels: []push.Channel{"ok", "{"}}, "channels[1]"},
		"other's channel": {Grant{User: "42", Channels: []push.Channel{"#43"}}, "channels[0]"},
		"many channels":   {Grant{User: "42", Channels: many}, "129 channels"},
		"bad topic":       {Grant{User: "42", Topics: []string{"a*b"}}, "topics[0]"},
		"bad info":        {Grant{User: "42", Info: json.RawMessage(`{`)}, "info"},
		"too long":        {Grant{User: "42", Info: json.RawMessage(`"` + strings.Repeat("a", push.MaxToken) + `"`)}, "bytes long"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text, _, err := m.Mint(tt.grant)
			r, ok := errors.AsType[*Rejection](err)
			if !ok || !strings.Contains(r.Reason, tt.want) {
				t.Errorf("Mint = %.20q, %v, want a Rejection with %q", text, err, tt.want)
			}
		})
	}
}

func BenchmarkMint(b *testing.B) {
	m, err := NewMinter(Config{Keys: keys(b, ":HS256:"+secret)}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := m.Mint(Grant{User: "42", Topics: []string{"room:*"}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for alg, entry := range map[string]string{
		"HS256": ":HS256:" + secret,
		"RS256": ":RS256:" + privateDER(b, pairs()["RS256"]),
		"ES256": ":ES256:" + privateDER(b, pairs()["ES256"]),
		"EdDSA": ":EdDSA:" + privateDER(b, pairs()["EdDSA"]),
	} {
		b.Run(alg, func(b *testing.B) {
			cfg := Config{Keys: keys(b, entry)}
			m, err := NewMinter(cfg, atMoment)
			if err != nil {
				b.Fatal(err)
			}
			text, _, err := m.Mint(Grant{User: "42", Channels: []push.Channel{"news"}, Topics: []string{"room:*"}})
			if err != nil {
				b.Fatal(err)
			}
			v := verifier(b, cfg)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
