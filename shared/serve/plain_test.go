package serve

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// plainText returns a plain request with more headers, each with its end.
func plainText(path, more, length, body string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: dispatch.internal:8703\r\nContent-Type: application/json\r\n" +
		more + "Content-Length: " + length + "\r\n\r\n" + body
}

var plainTexts = map[string]struct {
	text string
	want verdict
}{
	"plain":                    {plainText("/v1/dispatch", "", "2", "{}"), plainWhole},
	"signed":                   {plainText("/v1/dispatch", "webhook-id: req_1\r\nWebhook-Timestamp: 1790000000\r\nWEBHOOK-SIGNATURE: v1,AAAA= v1,BBBB=\r\n", "2", "{}"), plainWhole},
	"as Go's client sends it":  {plainText("/v1/dispatch", "User-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n", "2", "{}"), plainWhole},
	"header twice":             {plainText("/", "X-A: 1\r\nx-a:  2 \r\n", "2", "{}"), plainWhole},
	"empty header":             {plainText("/", "X-A:\r\n", "2", "{}"), plainWhole},
	"body to come":             {plainText("/", "", "200", "{}"), plainWhole},
	"another behind it":        {plainText("/", "", "2", "{}") + plainText("/x", "", "3", "abc"), plainWhole},
	"nothing yet":              {"", plainIncomplete},
	"half a line":              {"POST /v1/d", plainIncomplete},
	"half the headers":         {strings.TrimSuffix(plainText("/", "", "2", ""), "\r\n"), plainIncomplete},
	"another method":           {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", plainOther},
	"no path":                  {"POST * HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", plainOther},
	"absolute form":            {plainText("http://a/b", "", "2", "{}"), plainOther},
	"query":                    {plainText("/a?b=c", "", "2", "{}"), plainOther},
	"escaped path":             {plainText("/%61", "", "2", "{}"), plainOther},
	"dots":                     {plainText("/a/../b", "", "2", "{}"), plainOther},
	"two slashes":              {plainText("//a", "", "2", "{}"), plainOther},
	"fragment":                 {plainText("/a#b", "", "2", "{}"), plainOther},
	"old version":              {strings.Replace(plainText("/", "", "2", "{}"), "HTTP/1.1", "HTTP/1.0", 1), plainOther},
	"two spaces":               {strings.Replace(plainText("/", "", "2", "{}"), " HTTP/1.1", "  HTTP/1.1", 1), plainOther},
	"no length":                {strings.Replace(plainText("/", "", "2", ""), "Content-Length: 2\r\n", "", 1), plainOther},
	"length of nothing":        {plainText("/", "", "0", ""), plainOther},
	"length with a sign":       {plainText("/", "", "+2", "{}"), plainOther},
	"length with a zero":       {plainText("/", "", "02", "{}"), plainOther},
	"length in hex":            {plainText("/", "", "0x2", "{}"), plainOther},
	"two lengths":              {plainText("/", "Content-Length: 2\r\n", "2", "{}"), plainOther},
	"two lengths in one":       {plainText("/", "", "2, 2", "{}"), plainOther},
	"longest body":             {plainText("/", "", "65536", ""), plainWhole},
	"too long":                 {plainText("/", "", "65537", ""), plainOther},
	"beyond all numbers":       {plainText("/", "", "99999999999999999999", ""), plainOther},
	"chunked":                  {plainText("/", "Transfer-Encoding: chunked\r\n", "2", "{}"), plainOther},
	"chunked, obscured":        {plainText("/", "Transfer-Encoding : chunked\r\n", "2", "{}"), plainOther},
	"expects":                  {plainText("/", "Expect: 100-continue\r\n", "2", "{}"), plainOther},
	"closes":                   {plainText("/", "Connection: close\r\n", "2", "{}"), plainOther},
	"upgrades":                 {plainText("/", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "2", "{}"), plainOther},
	"trailer":                  {plainText("/", "Trailer: X-A\r\n", "2", "{}"), plainOther},
	"pragma":                   {plainText("/", "Pragma: no-cache\r\n", "2", "{}"), plainOther},
	"no host":                  {strings.Replace(plainText("/", "", "2", "{}"), "Host: dispatch.internal:8703\r\n", "", 1), plainOther},
	"two hosts":                {plainText("/", "Host: other\r\n", "2", "{}"), plainOther},
	"odd host":                 {strings.Replace(plainText("/", "", "2", "{}"), "dispatch", "a/b@c", 1), plainOther},
	"folded header":            {plainText("/", "X-A: 1\r\n 2\r\n", "2", "{}"), plainOther},
	"no colon":                 {plainText("/", "X-A\r\n", "2", "{}"), plainOther},
	"no name":                  {plainText("/", ": 1\r\n", "2", "{}"), plainOther},
	"bare line feeds":          {strings.ReplaceAll(plainText("/", "", "2", "{}"), "\r\n", "\n"), plainIncomplete},
	"bare line feed":           {plainText("/", "X-A: 1\nX-B: 2\r\n", "2", "{}"), plainOther},
	"bare carriage return":     {plainText("/", "X-A: 1\rX-B: 2\r\n", "2", "{}"), plainOther},
	"control character":        {plainText("/", "X-A: \x00\r\n", "2", "{}"), plainOther},
	"not ASCII":                {plainText("/", "X-A: é\r\n", "2", "{}"), plainOther},
	"as many headers as there": {plainText("/", strings.Repeat("X-A: 1\r\n", plainHeaders-3), "2", "{}"), plainWhole},
	"too many headers":         {plainText("/", strings.Repeat("X-A: 1\r\n", plainHeaders-2), "2", "{}"), plainOther},
	"too large":                {plainText("/", "X-A: "+strings.Repeat("x", plainHead)+"\r\n", "2", "{}"), plainOther},
	"too large and not whole":  {plainText("/", "X-A: "+strings.Repeat("x", plainHead), "", "")[:plainHead], plainOther},
}

func TestReadPlain(t *testing.T) {
	for name, tt := range plainTexts {
		t.Run(name, func(t *testing.T) {
			if r, got := readPlain([]byte(tt.text)); got != tt.want || got == plainWhole && (r.body == 0 || r.head == 0) {
				t.Errorf("readPlain(%.300q) = %+v, %v, want %v", tt.text, r, got, tt.want)
			}
		})
	}
}

// Whatever comes in pieces ends as it does in one.
func TestReadPlainInPieces(t *testing.T) {
	for name, tt := range plainTexts {
		t.Run(name, func(t *testing.T) {
			whole, _ := readPlain([]byte(tt.text))
			for n := range len(tt.text) {
				r, got := readPlain([]byte(tt.text[:n]))
				if got == plainWhole && !reflect.DeepEqual(r, whole) || got == plainOther && tt.want == plainWhole {
					t.Fatalf("readPlain(%.300q) = %+v, %v, and of all of it %+v, %v", tt.text[:n], r, got, whole, tt.want)
				}
			}
		})
	}
}

// What is read here net/http reads too, to the same, and leaves the same behind.
func FuzzReadPlain(f *testing.F) {
	for _, tt := range plainTexts {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		head, v := readPlain(b)
		if v != plainWhole {
			return
		}
		br := bufio.NewReader(bytes.NewReader(b))
		want, err := http.ReadRequest(br)
		if err != nil {
			t.Fatalf("net/http does not take %q: %v", b, err)
		}
		rest := b[head.head:]
		got := head.request(&http.Request{Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, rest[:min(head.body, len(rest))])
		if got.Method != want.Method || *got.URL != *want.URL || got.Host != want.Host || got.RequestURI != want.RequestURI ||
			got.Proto != want.Proto || int64(head.body) != want.ContentLength || len(want.TransferEncoding) != 0 ||
			want.Close || len(want.Trailer) != 0 || !reflect.DeepEqual(got.Header, want.Header) {
			t.Errorf("readPlain(%q) = %+v, want %+v", b, got, want)
		}
		gotBody, _ := io.ReadAll(got.Body)
		wantBody, _ := io.ReadAll(want.Body)
		if !bytes.Equal(gotBody, wantBody) {
			t.Errorf("the body of %q is %q, want %q", b, gotBody, wantBody)
		}
		wantRest, _ := io.ReadAll(br)
		if !bytes.Equal(rest[min(head.body, len(rest)):], wantRest) {
			t.Errorf("behind %q comes %q, want %q", b, rest[min(head.body, len(rest)):], wantRest)
		}
	})
}

func BenchmarkReadPlain(b *testing.B) {
	text := []byte(plainText("/v1/dispatch", "Webhook-Id: req_1\r\nWebhook-Timestamp: 1790000000\r\nWebhook-Signature: v1,AAAA=\r\n", "2", "{}"))
	b.ReportAllocs()
	for b.Loop() {
		if _, v := readPlain(text); v != plainWhole {
			b.Fatal(v)
		}
	}
}
