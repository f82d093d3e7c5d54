package callback

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestGuard: callbacks go out to the Internet, and nowhere else unless somebody
// allows it.
func TestGuard(t *testing.T) {
	allow := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/64")}
	tests := map[string]struct {
		addr string
		ok   bool
	}{
		"the Internet":              {"93.184.215.14", true},
		"the Internet, IPv6":        {"2606:2800:21f:cb07:6820:80da:af6b:8b2c", true},
		"loopback":                  {"127.0.0.1", false},
		"loopback, another":         {"127.9.9.9", false},
		"loopback, IPv6":            {"::1", false},
		"loopback, IPv4 in IPv6":    {"::ffff:127.0.0.1", false},
		"loopback, as it once was":  {"::127.0.0.1", false},
		"loopback by 6to4":          {"2002:7f00:1::", false},
		"loopback by a translator":  {"64:ff9b::7f00:1", false},
		"the metadata of a cloud":   {"169.254.169.254", false},
		"the metadata, IPv6":        {"fd00:ec2::254", false},
		"link-local":                {"fe80::1", false},
		"link-local, with a zone":   {"fe80::1%eth0", false},
		"private, 10":               {"10.0.0.1", false},
		"private, 172":              {"172.16.5.5", false},
		"private, 192":              {"192.168.1.1", false},
		"private, IPv6":             {"fc00::1", false},
		"a provider's":              {"100.100.100.200", false},
		"this host":                 {"0.0.0.0", false},
		"this host, IPv6":           {"::", false},
		"this network":              {"0.1.2.3", false},
		"broadcast":                 {"255.255.255.255", false},
		"multicast":                 {"224.0.0.1", false},
		"multicast, IPv6":           {"ff02::1", false},
		"for later":                 {"240.0.0.1", false},
		"an example":                {"192.0.2.1", false},
		"an example, IPv6":          {"2001:db8::1", false},
		"Teredo":                    {"2001::1", false},
		"allowed":                   {"10.1.2.3", true},
		"allowed, IPv4 in IPv6":     {"::ffff:10.1.2.3", true},
		"allowed, IPv6":             {"fd00::17", true},
		"next to what is allowed":   {"10.2.0.1", false},
		"site-local as it once was": {"fec0::1", false},
	}
	g := &guard{allow: allow, reserved: reserved()}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := g.check(netip.MustParseAddr(tt.addr)); (err == nil) != tt.ok {
				t.Errorf("check(%s) = %v", tt.addr, err)
			}
		})
	}
	if err := g.control("tcp", "not an address", nil); err == nil {
		t.Error("control takes what is no address")
	}
}

// TestGuardedPost: a name that leads to this machine is refused when it is
// connected to, and so is where a redirect leads.
func TestGuardedPost(t *testing.T) {
	reached := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer server.Close()
	for _, url := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), strings.Replace(server.URL, "127.0.0.1", "0.0.0.0", 1)} {
		r := newRig(t)
		r.sweeper = r.newSweeper(PosterConfig{}, nil)
		r.listenAt(url, "")
		r.accept("m", users("42"))
		r.place("m", "#42", 100, "")
		r.move("42", "phone", "#42", 100, 0)
		r.at(time.Second)
		r.sweep()
		due, err := r.store.ClaimCallbacks(t.Context(), start.Add(time.Hour), start.Add(time.Hour), 1)
		if err != nil || len(due) != 1 || !strings.Contains(due[0].Reason, "CALLBACK_ALLOW") {
			t.Errorf("%s: the callback is %+v, %v, want a reason that names CALLBACK_ALLOW", url, due, err)
		}
	}
	if reached {
		t.Error("the server on this machine was reached")
	}
}

// TestAnswerIsBounded: an endless answer ends the request, and counts by its
// status.
func TestAnswerIsBounded(t *testing.T) {
	r := newRig(t)
	r.answers(func(w http.ResponseWriter, req *http.Request) {
		for req.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	r.accept("m", users("42"))
	r.place("m", "#42", 100, "")
	r.move("42", "phone", "#42", 100, 100)
	r.at(time.Second)
	r.sweep()
	if got := names(r.told()); got != "received #42, acknowledged #42" {
		t.Errorf("told %q", got)
	}
}

// FuzzRetryAfter reads what receivers write.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", "-1", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT", " 5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d := retryAfter(http.Header{"Retry-After": {text}}); d < 0 || d > maxPutOff {
			t.Errorf("retryAfter(%q) = %s", text, d)
		}
	})
}
