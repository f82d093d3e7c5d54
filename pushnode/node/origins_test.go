package node

import (
	"slices"
	"testing"
)

func TestOrigins(t *testing.T) {
	tests := map[string]struct {
		text string
		want Origins // nil: refused
	}{
		"one":                  {"https://shop.example", Origins{"https://shop.example"}},
		"a space":              {"https://a.example, https://shop.example", Origins{"https://a.example", "https://shop.example"}},
		"a slash":              {"https://shop.example/", Origins{"https://shop.example"}},
		"the port of https":    {"https://shop.example:443", Origins{"https://shop.example"}},
		"the port of http":     {"http://shop.example:80/", Origins{"http://shop.example"}},
		"the other's port":     {"https://shop.example:80", Origins{"https://shop.example:80"}},
		"no port behind colon": {"https://shop.example:", Origins{"https://shop.example"}},
		"capitals":             {"HTTPS://Shop.Example:8443", Origins{"https://shop.example:8443"}},
		"IPv6":                 {"http://[::1]:8700,http://[::1]:80", Origins{"http://[::1]:8700", "http://[::1]"}},
		"any":                  {"*", Origins{"*"}},
		"no origin, a file":    {"null,file://", Origins{"null", "file://"}},
		"of an app":            {"capacitor://localhost", Origins{"capacitor://localhost"}},
		"no scheme":            {"shop.example", nil},
		"host and port alone":  {"localhost:3000", nil},
		"a path":               {"https://shop.example/app", nil},
		"two slashes":          {"https://shop.example//", nil},
		"a query":              {"https://shop.example?", nil},
		"a user":               {"https://ann@shop.example", nil},
		"a pattern":            {"https://*.shop.example", nil},
		"not ASCII":            {"https://bücher.example", nil},
		"a port too large":     {"https://shop.example:70000", nil},
		"nothing behind comma": {"https://shop.example,", Origins{"https://shop.example"}},
		"separated by a space": {"https://a.example https://b.example", nil},
		"the second is bad":    {"https://shop.example,shop.example", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got Origins
			err := got.UnmarshalText([]byte(tt.text))
			if (err == nil) != (tt.want != nil) || !slices.Equal(got, tt.want) {
				t.Errorf("%q is %q, %v, want %q", tt.text, got, err, tt.want)
			}
		})
	}
}

func FuzzParseOrigin(f *testing.F) {
	for _, text := range []string{"https://shop.example:443/", "http://[::1]:80", "null", "a://b:", "capacitor://localhost"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once, err := parseOrigin(text)
		if err != nil {
			return
		}
		if again, err := parseOrigin(once); again != once || err != nil {
			t.Errorf("%q is %q, and that is %q, %v", text, once, again, err)
		}
	})
}
