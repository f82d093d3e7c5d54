//go:build linux

package swarm

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestNextFrame(t *testing.T) {
	long := strings.Repeat("x", 300)
	huge := strings.Repeat("y", 70_000)
	tests := map[string]struct {
		data    string
		payload string
		size    int
		fails   bool
	}{
		"nothing":        {},
		"half a head":    {data: "\x81"},
		"short":          {data: "\x81\x02hi", payload: "hi", size: 4},
		"with more":      {data: "\x81\x02hi\x81\x01", payload: "hi", size: 4},
		"not whole":      {data: "\x81\x03hi"},
		"sixteen bits":   {data: "\x81\x7e\x01\x2c" + long, payload: long, size: 304},
		"half a length":  {data: "\x81\x7e\x01"},
		"64 bits":        {data: "\x82\x7f\x00\x00\x00\x00\x00\x01\x11\x70" + huge, payload: huge, size: 70_010},
		"too large":      {data: "\x82\x7f\xff\x00\x00\x00\x00\x01\x11\x70", fails: true},
		"masked":         {data: "\x81\x82\x00\x00\x00\x00hi", fails: true},
		"with extension": {data: "\xc1\x02hi", fails: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f, size, err := nextFrame([]byte(tt.data))
			if (err != nil) != tt.fails || size != tt.size || string(f.payload) != tt.payload {
				t.Errorf("nextFrame = %.20q, %d, %v; want %.20q, %d, failure %v", f.payload, size, err, tt.payload, tt.size, tt.fails)
			}
		})
	}
}

func FuzzNextFrame(f *testing.F) {
	f.Add([]byte("\x81\x02hi"))
	f.Add([]byte("\x81\x7e\x01\x2c"))
	f.Add([]byte("\x82\x7f\x00\x00\x00\x00\x00\x01\x11\x70"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fr, size, err := nextFrame(data)
		if size > len(data) || size < 0 || err != nil && size != 0 {
			t.Fatalf("nextFrame(%q) says size %d, %v", data, size, err)
		}
		if size > 0 && !bytes.HasSuffix(data[:size], fr.payload) {
			t.Fatalf("nextFrame(%q) says payload %q", data, fr.payload)
		}
	})
}

func TestPayload(t *testing.T) {
	at := time.Now()
	b := AppendPayload([]byte("before"), at)[len("before"):]
	if len(b) != PayloadSize {
		t.Errorf("a payload has %d bytes, want %d", len(b), PayloadSize)
	}
	var got []int64
	both := append(append([]byte(`{"push":{"data":`), b...), b...)
	if n := eachSent(both, func(nano int64) { got = append(got, nano) }); n != 2 || got[0] != at.UnixNano() || got[1] != got[0] {
		t.Errorf("two payloads in one frame read %d, %v, want twice %d", n, got, at.UnixNano())
	}
}

func FuzzEachSent(f *testing.F) {
	f.Add(AppendPayload(nil, time.Unix(1, 2)))
	f.Add([]byte(`"sent":99999999999999999999`))
	f.Add([]byte(`"sent":"sent":1`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := eachSent(data, func(nano int64) {
			if nano < 0 {
				t.Fatalf("eachSent(%q) found %d", data, nano)
			}
		})
		if want := bytes.Count(data, sentKey); n != want {
			t.Fatalf("eachSent(%q) = %d, want %d", data, n, want)
		}
	})
}

func TestLocateCentrifugo(t *testing.T) {
	tests := map[string]struct {
		payload string
		want    Client
	}{
		"connect reply": {`{"id":1,"connect":{"client":"c","subs":{"all":{"epoch":"e","offset":9},"#7":{"recoverable":true,"epoch":"e1","offset":12,"positioned":true}}}}`,
			Client{User: 7, Known: true, Epoch: "e1", Offset: 12}},
		"no offset yet":      {`{"id":1,"connect":{"subs":{"#7":{"recoverable":true,"epoch":"e1"}}}}`, Client{User: 7, Known: true, Epoch: "e1"}},
		"publication":        {`{"push":{"channel":"#7","pub":{"data":{"sent":1},"offset":5}}}`, Client{User: 7, Offset: 5}},
		"of another channel": {`{"push":{"channel":"all","pub":{"data":{"sent":1},"offset":5}}}`, Client{User: 7}},
		"garbage":            {`"#7"`, Client{User: 7}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := Client{User: 7}
			locateCentrifugo(&c, []byte(tt.payload))
			if c != tt.want {
				t.Errorf("after %s the client is at %+v, want %+v", tt.payload, c, tt.want)
			}
		})
	}
}

func FuzzLocateCentrifugo(f *testing.F) {
	f.Add([]byte(`{"connect":{"subs":{"#7":{"epoch":"e1","offset":12}}}}`))
	f.Add([]byte(`"#7""epoch":"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Client{User: 7}
		locateCentrifugo(&c, data)
		if c.User != 7 {
			t.Fatal("a payload changed who the client is")
		}
	})
}

func FuzzAnsweredUpgrade(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 401 Unauthorized\r\n\r\n{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		size, err := answeredUpgrade(data)
		if size < 0 || size > len(data) || err != nil && size != 0 {
			t.Fatalf("answeredUpgrade(%q) = %d, %v", data, size, err)
		}
	})
}
