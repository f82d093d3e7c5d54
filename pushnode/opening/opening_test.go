package opening

import (
	"bufio"
	"bytes"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

const path = "/connection/websocket"

// request returns a handshake with more headers, each with its end.
func request(target, more string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: push.example.com:8711\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + more + "\r\n"
}

var requests = map[string]struct {
	text string
	want Verdict
}{
	"plain":                      {request(path, ""), Opening},
	"with query":                 {request(path+"?token=a.b-c_d&device=phone%201", ""), Opening},
	"browser":                    {request(path, "Pragma: no-cache\r\nCache-Control: no-cache\r\nOrigin: https://app.example.com\r\nUser-Agent: Mozilla/5.0 (X11)\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"), Opening},
	"pragma alone":               {request(path, "Pragma: no-cache\r\n"), Opening},
	"header twice":               {request(path, "X-A: 1\r\nx-a:  2 \r\n"), Opening},
	"empty header":               {request(path, "X-A:\r\n"), Opening},
	"nothing yet":                {"", Incomplete},
	"half a line":                {"GET /connection/w", Incomplete},
	"half the headers":           {strings.TrimSuffix(request(path, ""), "\r\n"), Incomplete},
	"another path":               {request("/healthz", ""), Other},
	"path goes on":               {request(path+"/x", ""), Other},
	"path in another spelling":   {request("/connection/%77ebsocket", ""), Other},
	"absolute form":              {request("http://push.example.com"+path, ""), Other},
	"empty query":                {request(path+"?", ""), Other},
	"fragment":                   {request(path+"?a#b", ""), Other},
	"another method":             {"POST" + request(path, "")[3:], Other},
	"old version":                {strings.Replace(request(path, ""), "HTTP/1.1", "HTTP/1.0", 1), Other},
	"no upgrade":                 {strings.Replace(request(path, ""), "Upgrade: websocket\r\n", "", 1), Other},
	"no host":                    {strings.Replace(request(path, ""), "Host: push.example.com:8711\r\n", "", 1), Other},
	"two hosts":                  {request(path, "Host: other\r\n"), Other},
	"odd host":                   {strings.Replace(request(path, ""), "push.example.com", "a/b@c", 1), Other},
	"length":                     {request(path, "Content-Length: 5\r\n"), Other},
	"length of nothing":          {request(path, "Content-Length: 0\r\n"), Other},
	"chunked":                    {request(path, "Transfer-Encoding: chunked\r\n"), Other},
	"expects":                    {request(path, "Expect: 100-continue\r\n"), Other},
	"folded header":              {request(path, "X-A: 1\r\n 2\r\n"), Other},
	"space before colon":         {request(path, "X-A : 1\r\n"), Other},
	"bare line feed":             {strings.ReplaceAll(request(path, ""), "\r\n", "\n"), Incomplete},
	"bare line feed in a header": {request(path, "X-A: 1\nX-B: 2\r\n"), Other},
	"bare carriage return":       {request(path, "X-A: 1\rX-B: 2\r\n"), Other},
	"control character":          {request(path, "X-A: \x00\r\n"), Other},
	"not ASCII":                  {request(path, "X-A: é\r\n"), Other},
	"a frame behind it":          {request(path, "") + "\x81\x80", Other},
	"a request behind it":        {request(path, "") + "GET / HTTP/1.1\r\n\r\n", Other},
	"too many headers":           {request(path, strings.Repeat("X-A: 1\r\n", 64)), Other},
	"too large":                  {request(path, "X-A: "+strings.Repeat("x", MaxBytes)+"\r\n"), Other},
	"too large and not whole":    {request(path, "X-A: "+strings.Repeat("x", MaxBytes))[:MaxBytes], Other},
}

func TestRead(t *testing.T) {
	for name, tt := range requests {
		t.Run(name, func(t *testing.T) {
			r, got := new(Reader).Read([]byte(tt.text), path)
			if got != tt.want || (r != nil) != (got == Opening) {
				t.Errorf("Read(%.300q) = %v, %v, want %v", tt.text, r, got, tt.want)
			}
		})
	}
}

// Whatever comes in pieces ends as it does in one.
func TestReadInPieces(t *testing.T) {
	for name, tt := range requests {
		t.Run(name, func(t *testing.T) {
			var rd Reader
			for n := range len(tt.text) {
				if _, got := rd.Read([]byte(tt.text[:n]), path); got == Opening && !strings.HasSuffix(tt.text[:n], "\r\n\r\n") || got == Other && tt.want == Opening {
					t.Fatalf("Read(%.300q) = %v, and of all of it %v", tt.text[:n], got, tt.want)
				}
			}
		})
	}
}

// What is read here net/http reads too, and to the same.
func FuzzRead(f *testing.F) {
	for _, tt := range requests {
		f.Add([]byte(tt.text))
	}
	before := []byte(requests["browser"].text) // nothing of it may be seen in what is read next
	f.Fuzz(func(t *testing.T, b []byte) {
		var rd Reader
		if _, verdict := rd.Read(before, path); verdict != Opening {
			t.Fatal(verdict)
		}
		got, verdict := rd.Read(b, path)
		var fresh Reader
		if _, want := fresh.Read(b, path); verdict != want {
			t.Errorf("a Reader that was used says %v of %q, want %v as a new one", verdict, b, want)
		}
		if verdict != Opening {
			return
		}
		want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			t.Fatalf("net/http does not take %q: %v", b, err)
		}
		if got.Method != want.Method || *got.URL != *want.URL || got.Host != want.Host || got.RequestURI != want.RequestURI ||
			got.Proto != want.Proto || !reflect.DeepEqual(got.Header, want.Header) {
			t.Errorf("Read(%q) = %+v, want %+v", b, got, want)
		}
		if want.ContentLength != 0 || len(want.TransferEncoding) != 0 {
			t.Errorf("Read took %q, which has a body", b)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	tests := map[string]string{
		"sdk": request(path+"?token="+strings.Repeat("t", 250), ""),
		"browser": request(path, "Pragma: no-cache\r\nCache-Control: no-cache\r\nOrigin: https://app.example.com\r\nUser-Agent: Mozilla/5.0 (X11)\r\n"+
			"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en\r\nSec-WebSocket-Protocol: centrifuge-json\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"),
	}
	for name, text := range tests {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var rd Reader
			for b.Loop() {
				if _, verdict := rd.Read([]byte(text), path); verdict != Opening {
					b.Fatal(verdict)
				}
			}
		})
	}
}
