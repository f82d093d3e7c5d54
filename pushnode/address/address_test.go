package address

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func addrs(cidrs ...string) func() ([]net.Addr, error) {
	return func() ([]net.Addr, error) {
		var list []net.Addr
		for _, c := range cidrs {
			ip, n, err := net.ParseCIDR(c)
			if err != nil {
				return nil, err
			}
			n.IP = ip
			list = append(list, n)
		}
		return list, nil
	}
}

func TestFind(t *testing.T) {
	tests := map[string]struct {
		finder Finder
		want   string
		fails  string
	}{
		"configured host":          {Finder{Configured: "node-1.internal"}, "node-1.internal:8811", ""},
		"configured host and port": {Finder{Configured: "10.0.0.9:9000"}, "10.0.0.9:9000", ""},
		"configured IPv6":          {Finder{Configured: "[fd00::1]"}, "[fd00::1]:8811", ""},
		"configured without host":  {Finder{Configured: ":9000"}, "", "neither host nor"},
		"configured without port":  {Finder{Configured: "host:"}, "", "has a port"},
		"configured, a named port": {Finder{Configured: "host:notaport"}, "", "has a port"},
		"configured, port 0":       {Finder{Configured: "host:0"}, "", "has a port"},
		"configured, colons alone": {Finder{Configured: ":::"}, "", "neither host nor"},
		"configured, bare IPv6":    {Finder{Configured: "fd00::1"}, "[fd00::1]:8811", ""},
		"configured IPv6 and port": {Finder{Configured: "[fd00::1]:9000"}, "[fd00::1]:9000", ""},
		"configured with a tilde":  {Finder{Configured: "a~b"}, "", "neither host nor"},
		"configured with a space":  {Finder{Configured: "a b:1"}, "", "neither host nor"},
		"configured as a URL":      {Finder{Configured: "http://10.0.0.9"}, "", "NODE_ADDR: "},
		"private interface":        {Finder{Interfaces: addrs("127.0.0.1/8", "203.0.113.7/24", "10.1.2.3/16")}, "10.1.2.3:8811", ""},
		"public interface":         {Finder{Interfaces: addrs("127.0.0.1/8", "203.0.113.7/24")}, "203.0.113.7:8811", ""},
		"loopback alone":           {Finder{Interfaces: addrs("127.0.0.1/8", "169.254.1.1/16", "::1/128")}, "127.0.0.1:8811", ""},
		"no interface":             {Finder{Interfaces: addrs("fe80::1/64")}, "", "set NODE_ADDR"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.finder.Find(t.Context(), "8811")
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Fatalf("Find = %q, %v, want an error that holds %q", got, err, tt.fails)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("Find = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// document returns a recorded answer of the ECS task metadata endpoint, version 4.
func document(t testing.TB, name string) []byte {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("testdata", "metadata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestFindOnECS asks an endpoint that gives one document after the other, the
// last for ever; an empty name stands for a 404.
func TestFindOnECS(t *testing.T) {
	tests := map[string]struct {
		answers []string
		want    string
		fails   string
	}{
		"awsvpc":                          {[]string{"fargate"}, "10.0.2.106:8811", ""},
		"awsvpc, IPv6 too":                {[]string{"fargate_dual_stack"}, "10.0.3.41:8811", ""},
		"not there, incomplete, complete": {[]string{"", "starting", "fargate"}, "10.0.2.106:8811", ""},
		"no network, no address, both":    {[]string{"starting", "starting_network", "fargate"}, "10.0.2.106:8811", ""},
		"host":                            {[]string{"starting", "ec2_host"}, "10.1.2.3:8811", ""},
		"bridge":                          {[]string{"starting", "ec2_bridge"}, "", "set NODE_ADDR"},
		"never complete":                  {[]string{"starting"}, "", "no network with an IPv4 address yet"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var answers [][]byte
			for _, name := range tt.answers {
				if name == "" {
					answers = append(answers, nil)
					continue
				}
				answers = append(answers, document(t, name))
			}
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				client := &http.Client{Transport: roundTrip(func(*http.Request) *http.Response {
					doc := answers[min(asked, len(answers)-1)]
					asked++
					w := httptest.NewRecorder()
					if doc == nil {
						w.WriteHeader(http.StatusNotFound)
					}
					w.Write(doc)
					return w.Result()
				})}
				began := time.Now()
				f := Finder{MetadataURI: "http://169.254.170.2/v4/x", Client: client, Interfaces: addrs("127.0.0.1/8", "10.1.2.3/16")}
				got, err := f.Find(t.Context(), "8811")
				if got != tt.want || (tt.fails == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tt.fails)) {
					t.Errorf("Find = %q, %v, want %q, %q", got, err, tt.want, tt.fails)
				}
				if asked < len(tt.answers) || (len(tt.answers) > 1 && asked != len(tt.answers)) {
					t.Errorf("asked %d times, want %d", asked, len(tt.answers))
				}
				if took := time.Since(began); took > metadataPatience {
					t.Errorf("took %s, want %s at most", took, metadataPatience)
				}
			})
		})
	}
}

// A roundTrip answers requests without a network.
type roundTrip func(*http.Request) *http.Response

func (rt roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return rt(r), nil
}

func FuzzParseMetadata(f *testing.F) {
	for _, name := range []string{"fargate", "fargate_dual_stack", "ec2_bridge", "ec2_host", "starting", "starting_network"} {
		f.Add(document(f, name))
	}
	for _, doc := range []string{`[]`, `{"Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":["::1"]}]}`} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		ip, err := parseMetadata(doc)
		if err == nil && net.ParseIP(ip).To4() == nil {
			t.Errorf("parseMetadata(%q) = %q, which is no IPv4 address", doc, ip)
		}
	})
}
