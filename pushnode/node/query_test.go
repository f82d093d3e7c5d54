package node

import (
	"net/url"
	"testing"
)

// FuzzReadQuery holds readQuery to net/url.
func FuzzReadQuery(f *testing.F) {
	f.Add("token=a.b-c_d&device=phone%201&format=protobuf")
	f.Add("cf_ws_frame_ping_pong=true&cf_protocol=protobuf")
	f.Add("device=a&device=b&&token=%zz&token=x;y&token=good&t%6fken=late&=&device")
	f.Fuzz(func(t *testing.T, raw string) {
		values, _ := url.ParseQuery(raw) // what is good of it counts
		want := query{
			device: values.Get("device"), token: values.Get("token"),
			framePing: values.Get("cf_ws_frame_ping_pong") == "true",
			protobuf:  values.Get("format") == "protobuf" || values.Get("cf_protocol") == "protobuf",
		}
		if got := readQuery(raw); got != want {
			t.Errorf("readQuery(%q) = %+v, want %+v", raw, got, want)
		}
	})
}

func BenchmarkReadQuery(b *testing.B) {
	raw := "cf_protocol_version=v2&device=phone-1&token=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiJ9.AAAA"
	b.ReportAllocs()
	for b.Loop() {
		if q := readQuery(raw); q.device != "phone-1" {
			b.Fatal(q)
		}
	}
}
