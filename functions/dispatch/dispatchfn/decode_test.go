package dispatchfn

import (
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// asCollect returns a request as Collect writes it.
func asCollect(messages int) []byte {
	req := push.DispatchRequest{Again: true}
	now := time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	for i := range messages {
		req.Messages = append(req.Messages, push.Message{
			ID: push.MessageID(fmt.Sprint("shop/", i)), Event: "order.shipped", Data: json.RawMessage(`{"text":"` + strings.Repeat("x", 100) + `"}`),
			To: push.Recipients{Users: []push.UserID{push.UserID(fmt.Sprint(i))}}, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
			Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		})
	}
	b, err := json.Marshal(req)
	if err != nil {
		panic(err)
	}
	return b
}

func TestDecodeRequest(t *testing.T) {
	tests := map[string]struct {
		body  string
		plain bool // it is read without reflection
	}{
		"as Collect writes it": {string(asCollect(3)), true},
		"white space":          {" {\n\"messages\" : [ { \"id\" : \"a\" , \"data\" : [ 1 , {} ] , \"created_at\":\"2030-01-02T03:04:05Z\"} ] } ", true},
		"all recipients": {`{"messages":[{"to":{"users":["1","2"],"channels":["news"],"all":true},"created_at":"2030-01-02T03:04:05+01:00"},
			{"to":{"users":[],"all":false},"data":-1.5e3,"created_at":"2030-01-02T03:04:05.000000001Z"}]}`, true},
		"nothing":            {`{}`, true},
		"no messages":        {`{"messages":[],"again":false}`, true},
		"escapes":            {`{"messages":[{"id":"a\"b","created_at":"2030-01-02T03:04:05Z"}]}`, false},
		"escapes in data":    {`{"messages":[{"id":"a","data":"\"}\\","created_at":"2030-01-02T03:04:05Z"}]}`, true},
		"another case":       {`{"Messages":[]}`, false},
		"a field twice":      {`{"again":true,"again":false}`, false},
		"null":               {`{"messages":null}`, false},
		"null data":          {`{"messages":[{"data":null,"created_at":"2030-01-02T03:04:05Z"}]}`, false},
		"unknown field":      {`{"messages":[{"idd":"a"}]}`, false},
		"something behind":   {`{} {}`, false},
		"cut off":            {string(asCollect(1))[:100], false},
		"a number as a text": {`{"messages":[{"id":1}]}`, false},
		"no time":            {`{"messages":[{"created_at":"yesterday"}]}`, false},
		"no data":            {`{"messages":[{"data":,"created_at":"2030-01-02T03:04:05Z"}]}`, false},
		"data that is none":  {`{"messages":[{"data":{]},"created_at":"2030-01-02T03:04:05Z"}]}`, false},
		"no comma":           {`{"again":true"messages":[]}`, false},
		"no UTF-8":           {"{\"messages\":[{\"id\":\"\xff\"}]}", false},
		"no JSON":            {`again`, false},
		"empty":              {``, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got push.DispatchRequest
			s := scanner{b: []byte(tt.body)}
			if plain := s.request(&got); plain != tt.plain && name != "no UTF-8" {
				t.Errorf("%s is read without reflection: %v, want %v", tt.body, plain, tt.plain)
			}
			sameAsReflection(t, []byte(tt.body))
		})
	}
}

// sameAsReflection holds decodeRequest against what it stands in for.
func sameAsReflection(t *testing.T, body []byte) {
	t.Helper()
	var got, want push.DispatchRequest
	problem, due := decodeRequest(body, &got), serve.DecodeBytes(body, &want)
	if !reflect.DeepEqual(problem, due) {
		t.Errorf("decodeRequest(%q): %v, want %v", body, problem, due)
	}
	if due == nil && !reflect.DeepEqual(got, want) {
		t.Errorf("decodeRequest(%q) =\n%+v, want\n%+v", body, got, want)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add(asCollect(2))
	f.Add([]byte(`{"messages":[{"id":"a","data":[1,{"a":"}"}],"to":{"all":true},"created_at":"2030-01-02T03:04:05Z"}],"again":true}`))
	f.Add([]byte(`{"messages":[{"data":truefalse,"created_at":"2030-01-02T03:04:05Z"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) { sameAsReflection(t, body) })
}

// BenchmarkDecodeRequest decodes 100 messages.
func BenchmarkDecodeRequest(b *testing.B) {
	body := asCollect(100)
	decoders := map[string]func([]byte, *push.DispatchRequest) *push.Problem{
		"plain":      decodeRequest,
		"reflection": func(body []byte, req *push.DispatchRequest) *push.Problem { return serve.DecodeBytes(body, req) },
	}
	for name, decode := range decoders {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				var req push.DispatchRequest
				if p := decode(body, &req); p != nil || len(req.Messages) != 100 {
					b.Fatal(p)
				}
			}
		})
	}
}

// TestDecodeAllocatesForMessages: what stands in the data of messages does not
// have more memory taken than for as many as a request may have.
func TestDecodeAllocatesForMessages(t *testing.T) {
	times := strings.TrimSuffix(strings.Repeat(`"created_at",`, 200_000), ",")
	body := []byte(`{"messages":[{"id":"k","to":{"users":["42"]},"data":[` + times +
		`],"created_at":"2030-01-02T03:04:05Z","expires_at":"2030-01-02T04:04:05Z"}]}`)
	var req push.DispatchRequest
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if p := decodeRequest(body, &req); p != nil || len(req.Messages) != 1 {
		t.Fatalf("decoded are %d messages, %v; want 1", len(req.Messages), p)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > uint64(len(body)) {
		t.Errorf("decoding %d bytes allocates %d, want no more", len(body), took)
	}
}
