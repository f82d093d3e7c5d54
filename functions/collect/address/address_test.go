package address_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"pushcluster/functions/collect/address"
)

func prefixes(t testing.TB, text string) address.Prefixes {
	t.Helper()
	p, err := address.ParsePrefixes(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOf(t *testing.T) {
	tests := map[string]struct {
		remote  string
		hops    []string // of X-Forwarded-For, a header each
		trusted string
		want    string // "": none
	}{
		"direct":                       {"192.0.2.7:4711", nil, "", "192.0.2.7"},
		"direct, IPv6":                 {"[2001:db8::7]:4711", nil, "", "2001:db8::7"},
		"IPv4 in IPv6":                 {"[::ffff:192.0.2.7]:4711", nil, "", "192.0.2.7"},
		"with a zone":                  {"[fe80::1%eth0]:4711", nil, "", "fe80::1"},
		"no address":                   {"@", nil, "", ""},
		"forged, nobody trusted":       {"192.0.2.7:1", []string{"198.51.100.1"}, "", "192.0.2.7"},
		"forged, another trusted":      {"192.0.2.7:1", []string{"198.51.100.1"}, "10.0.0.0/8", "192.0.2.7"},
		"one proxy":                    {"10.0.0.1:1", []string{"192.0.2.7"}, "10.0.0.0/8", "192.0.2.7"},
		"one proxy, forged before":     {"10.0.0.1:1", []string{"198.51.100.1, 192.0.2.7"}, "10.0.0.0/8", "192.0.2.7"},
		"two proxies":                  {"10.0.0.1:1", []string{"198.51.100.1,192.0.2.7, 10.9.9.9"}, "10.0.0.0/8", "192.0.2.7"},
		"two headers":                  {"10.0.0.1:1", []string{"198.51.100.1", "192.0.2.7"}, "10.0.0.0/8", "192.0.2.7"},
		"two headers, all of proxies":  {"10.0.0.1:1", []string{"192.0.2.7", "10.0.0.2,10.0.0.3"}, "10.0.0.0/8", "192.0.2.7"},
		"with ports":                   {"10.0.0.1:1", []string{"192.0.2.7:5000, [2001:db8::1]:80"}, "10.0.0.0/8,2001:db8::/32", "192.0.2.7"},
		"in brackets":                  {"10.0.0.1:1", []string{"[2001:db8::7]"}, "10.0.0.1", "2001:db8::7"},
		"proxies alone":                {"10.0.0.1:1", []string{"10.0.0.2"}, "10.0.0.0/8", "10.0.0.2"},
		"a proxy that says nothing":    {"10.0.0.1:1", nil, "10.0.0.0/8", "10.0.0.1"},
		"a hop that is none":           {"10.0.0.1:1", []string{"192.0.2.7, unknown"}, "10.0.0.0/8", ""},
		"an empty hop":                 {"10.0.0.1:1", []string{"192.0.2.7,"}, "10.0.0.0/8", ""},
		"Lambda's source":              {"192.0.2.7:0", []string{"203.0.113.9"}, "", "192.0.2.7"},
		"a proxy known by its IPv6":    {"[2001:db8::1]:1", []string{"192.0.2.7"}, "2001:db8::/32", "192.0.2.7"},
		"a proxy mapped into IPv6":     {"[::ffff:10.0.0.1]:1", []string{"192.0.2.7"}, "10.0.0.0/8", "192.0.2.7"},
		"a hop that is mapped, forged": {"10.0.0.1:1", []string{"192.0.2.7, ::ffff:10.0.0.9"}, "10.0.0.0/8", "192.0.2.7"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", nil)
			r.RemoteAddr = tt.remote
			r.Header["X-Forwarded-For"] = tt.hops
			got := address.Of(r, prefixes(t, tt.trusted))
			if (tt.want == "") == got.IsValid() || tt.want != "" && got != netip.MustParseAddr(tt.want) {
				t.Errorf("%s by %q trusting %s comes from %v, want %q", tt.remote, tt.hops, tt.trusted, got, tt.want)
			}
		})
	}
}

func TestPrefixes(t *testing.T) {
	p := prefixes(t, "192.0.2.0/24, 2001:db8::/32,\n203.0.113.9,::ffff:198.51.100.1")
	tests := map[string]bool{
		"192.0.2.0": true, "192.0.2.255": true, "192.0.3.0": false, "2001:db8:1::1": true, "2001:db9::1": false,
		"203.0.113.9": true, "203.0.113.8": false, "198.51.100.1": true, "::1": false,
	}
	for text, want := range tests {
		if got := p.Has(netip.MustParseAddr(text)); got != want {
			t.Errorf("Has(%s) = %v, want %v", text, got, want)
		}
	}
	if p.Has(netip.Addr{}) {
		t.Error("no address is in a network")
	}
	for _, text := range []string{"192.0.2.7/24", "192.0.2.0/33", "example.com", "fe80::1%eth0", "::ffff:192.0.2.0/120", "/", "1.2.3"} {
		if _, err := address.ParsePrefixes(text); err == nil {
			t.Errorf("ParsePrefixes(%q) = nil error", text)
		}
	}
}

// FuzzOf reads what strangers and proxies write: without trust only the
// connection counts, and what a header says is never trusted further than its
// last hop that is no proxy.
func FuzzOf(f *testing.F) {
	f.Add("10.0.0.1:1", "192.0.2.7, 10.0.0.2")
	f.Add("[2001:db8::1]:80", ",,")
	f.Add("", "[::1%x]:1")
	trusted := prefixes(f, "10.0.0.0/8,2001:db8::/32")
	f.Fuzz(func(t *testing.T, remote, hops string) {
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": {hops}}}
		direct := address.Of(r, nil)
		behind := address.Of(r, trusted)
		if !trusted.Has(direct) && behind != direct {
			t.Fatalf("%q is not trusted, and yet %q makes it %v", remote, hops, behind)
		}
		if behind.Is4In6() || behind.Zone() != "" {
			t.Fatalf("%q, %q: %v is not in its plain form", remote, hops, behind)
		}
		r.Header["X-Forwarded-For"] = []string{"198.51.100.1", hops + ", 192.0.2.7"}
		if got := address.Of(r, trusted); trusted.Has(direct) && got != netip.MustParseAddr("192.0.2.7") {
			t.Fatalf("%q before the last hop makes it %v", hops, got)
		}
	})
}

// FuzzParsePrefixes reads an environment variable.
func FuzzParsePrefixes(f *testing.F) {
	f.Add("192.0.2.0/24,2001:db8::/32,203.0.113.9")
	f.Add("0.0.0.0/0\n::/0")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := address.ParsePrefixes(text)
		if err != nil {
			return
		}
		for _, network := range p {
			if !network.IsValid() || !p.Has(network.Addr()) {
				t.Fatalf("ParsePrefixes(%q) has %v, which does not hold its own address", text, network)
			}
		}
	})
}
