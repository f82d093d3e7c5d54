package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func TestParseKeys(t *testing.T) {
	rsaKey := pairs()["RS256"]
	multi := publicPEM(t, rsaKey)
	tests := map[string]struct {
		in   string
		want string // the keys as "kid:alg" with "+" where tokens can be minted
	}{
		"none":               {"", ""},
		"blank":              {"  ", ""},
		"raw secret":         {"a:HS256:" + secret, "a:HS256+"},
		"secret with colons": {"a:HS256:x:y:" + secret, "a:HS256+"},
		"base64 secret":      {"a:HS384:base64:" + base64.StdEncoding.EncodeToString([]byte(secret)), "a:HS384+"},
		"base64url secret":   {"a:HS384:base64:" + base64.RawURLEncoding.EncodeToString([]byte(secret)), "a:HS384+"},
		"no kid":             {":HS512:" + secret, ":HS512+"},
		"spaces":             {" a:HS256:" + secret + " , b:HS256:" + secret, "a:HS256+ b:HS256+"},
		"PEM in one line":    {"r:RS256:" + oneLine(multi), "r:RS256"},
		"PEM in many lines":  {"r:RS256:" + multi, "r:RS256"},
		"private as DER":     {"r:RS512:" + privateDER(t, rsaKey), "r:RS512+"},
		"private, base64:":   {"e:EdDSA:base64:" + privateDER(t, pairs()["EdDSA"]), "e:EdDSA+"},
		"curve":              {"e:ES512:" + oneLine(publicPEM(t, pairs()["ES512"])), "e:ES512"},
		"same kid twice":     {"a:HS256:" + secret + ",a:RS256:" + oneLine(multi), "a:HS256+ a:RS256"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			list, err := ParseKeys(tt.in)
			if err != nil {
				t.Fatalf("ParseKeys(%.60q) = %v", tt.in, err)
			}
			var got []string
			for _, k := range list {
				s := k.String()
				if k.sign != nil {
					s += "+"
				}
				got = append(got, s)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("ParseKeys(%.60q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestParseKeysRefuses(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ in, want string }{
		"one part":             {secret, `token key 1: want "kid:alg:key"`},
		"two parts":            {"HS256:" + secret, `want "kid:alg:key"`},
		"empty entry":          {"a:HS256:" + secret + ",", "token key 2:"},
		"parts swapped":        {"a:" + secret + ":HS256", "the algorithm is none of"},
		"none":                 {"a:none:", "the algorithm is none of"},
		"short secret":         {"a:HS256:" + secret[:31], "31 bytes; it must have at least 32"},
		"short base64 secret":  {"a:HS256:base64:AAAA", "3 bytes"},
		"bad base64 secret":    {"a:HS256:base64:" + secret + "!", "not base64"},
		"public key as secret": {"a:HS256:" + oneLine(publicPEM(t, pairs()["RS256"])), "a public key is no secret"},
		"secret as RSA key":    {"a:RS256:" + secret, "the key is none that"},
		"RSA key for ES":       {"a:ES256:" + oneLine(publicPEM(t, pairs()["RS256"])), "an RSA key does not go with ES256"},
		"wrong curve":          {"a:ES256:" + oneLine(publicPEM(t, pairs()["ES384"])), "curve P-384 does not go with ES256"},
		"curve nobody uses":    {"a:ES256:" + privateDER(t, p224), "P-224"},
		"EC key for EdDSA":     {"a:EdDSA:" + oneLine(publicPEM(t, pairs()["ES256"])), "does not go with EdDSA"},
		"small RSA key":        {"a:RS256:" + oneLine(publicPEM(t, small)), "1024 bits"},
		"torn PEM":             {"a:RS256:-----BEGIN PUBLIC KEY-----AAAA", "the PEM cannot be read"},
		"two at once":          {"x,a:HS256:" + secret + ",b:HS256:short", "token key 3:"},
		"long kid":             {strings.Repeat("k", 257) + ":HS256:" + secret, "the kid is longer"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			list, err := ParseKeys(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("ParseKeys = %v, %v, want an error with %q", list, err, tt.want)
			}
			if strings.Contains(err.Error(), secret[:20]) {
				t.Errorf("ParseKeys's error holds the secret: %v", err)
			}
		})
	}
}

func TestKeyPrintsNoSecret(t *testing.T) {
	k := keys(t, "a:HS256:"+secret)[0]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(verb, k); strings.Contains(got, secret[:8]) || strings.Contains(got, "48 49") {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("a:HS256:" + secret + ",b:HS512:base64:AAAA")
	f.Add(":ES256:" + oneLine(publicPEM(f, pairs()["ES256"])))
	f.Add("a:EdDSA:MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=")
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseKeys(s)
		if err != nil && list != nil {
			t.Fatalf("ParseKeys(%q) = %v and %v", s, list, err)
		}
		for _, k := range list {
			if k.verify == nil {
				t.Errorf("ParseKeys(%q): key %s verifies nothing", s, k)
			}
		}
	})
}
