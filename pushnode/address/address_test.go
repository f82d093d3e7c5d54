package address

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
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
		"configured without host":  {Finder{Configured: ":9000"}, "", "names no host"},
		"configured as a URL":      {Finder{Configured: "http://10.0.0.9"}, "", "not host or host:port"},
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

// Documents of the shape that the ECS task metadata endpoint version 4 gives.
const (
	awsvpc     = `{"DockerId":"x","Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":["10.0.2.106"],"AttachmentIndex":0,"MACAddress":"0e:9e:32:c7:48:85"}]}`
	bridge     = `{"DockerId":"x","Networks":[{"NetworkMode":"bridge","IPv4Addresses":["172.17.0.2"]}]}`
	incomplete = `{"DockerId":"x"}`
)

func TestMetadataThatIsIncompleteAtFirst(t *testing.T) {
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			w.WriteHeader(http.StatusNotFound)
		case 2:
			w.Write([]byte(incomplete))
		default:
			w.Write([]byte(awsvpc))
		}
	}))
	defer srv.Close()
	f := Finder{MetadataURI: srv.URL, Client: srv.Client()}
	if got, err := f.Find(t.Context(), "8811"); err != nil || got != "10.0.2.106:8811" {
		t.Errorf("Find = %q, %v, want 10.0.2.106:8811", got, err)
	}
}

func FuzzParseMetadata(f *testing.F) {
	for _, doc := range []string{awsvpc, bridge, incomplete, `[]`, `{"Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":["::1"]}]}`} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		ip, err := parseMetadata(doc)
		if err == nil && net.ParseIP(ip).To4() == nil {
			t.Errorf("parseMetadata(%q) = %q, which is no IPv4 address", doc, ip)
		}
	})
}
