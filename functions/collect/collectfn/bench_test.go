package collectfn

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"pushcluster/functions/collect/rule"
)

func benchBody(id string) string {
	return `{"id":"` + id + `","to":{"users":["42","7"]},"event":"order.paid","ttl":"72h","data":{"order":123456789,"text":"` + strings.Repeat("words ", 80) + `"}}`
}

// BenchmarkIngest reads and checks one message of about 600 bytes, and an array
// of 100 of them.
func BenchmarkIngest(b *testing.B) {
	one := []byte(benchBody("order-1"))
	many := []byte("[" + strings.Repeat(string(one)+",", 99) + string(one) + "]")
	q := request{sender: "shop", now: start}
	b.Run("one", func(b *testing.B) {
		b.SetBytes(int64(len(one)))
		b.ReportAllocs()
		for b.Loop() {
			if _, p := q.one(one); p != nil {
				b.Fatal(p)
			}
		}
	})
	b.Run("array", func(b *testing.B) {
		b.SetBytes(int64(len(many)))
		b.ReportAllocs()
		for b.Loop() {
			if _, _, p := q.batch(many); p != nil {
				b.Fatal(p)
			}
		}
	})
}

// BenchmarkPost sends messages through everything: the handler, SQLite with its
// fsync, and a signed hand-off over HTTP on this machine.
func BenchmarkPost(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("messages=%d", size), func(b *testing.B) {
			r := newRig(b)
			var n atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					parts := make([]string, size)
					for i := range parts {
						parts[i] = benchBody(fmt.Sprint(n.Add(1)))
					}
					req := httptest.NewRequest("POST", "/v1/messages", strings.NewReader("["+strings.Join(parts, ",")+"]"))
					req.Header.Set("X-API-Key", "sesame")
					if w := r.do(req); w.Code != 202 {
						b.Errorf("answer = %d %s", w.Code, w.Body)
					}
				}
			})
			b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkWebhook verifies, decodes and maps one delivery of about 5 KB, and
// makes the record of it: what a webhook costs without the store. Its figure is of
// one core, by the time that processors were used: go test -cpu 1.
func BenchmarkWebhook(b *testing.B) {
	r := newRig(b)
	r.load(sourcesFile)
	src, _ := r.hooks.set.Source(b.Context(), "github")
	body := []byte(strings.Replace(opened, `"title":"T"`, `"title":"T","description":"`+strings.Repeat("words ", 800)+`"`, 1))
	header := http.Header{"Content-Type": {"application/json"}, "X-Github-Delivery": {"d"}, "X-Github-Event": {"pull_request"},
		"X-Hub-Signature-256": {githubSignature("github secret", string(body))}}
	h := r.collect
	req := &http.Request{RemoteAddr: "192.0.2.1:1234"}
	before := cpuTime(b)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := src.Receiver.Verify(header, body, start); err != nil {
			b.Fatal(err)
		}
		events, _, p := readEvents(header, body, src.Receiver)
		if p != nil {
			b.Fatal(p)
		}
		visible, hidden := visibleHeaders(header, src.Receiver.Scheme())
		d := &delivery{source: src, in: rule.Input{Source: src.Name, Headers: visible, ReceivedAt: start}}
		list := h.mapAll(b.Context(), d, events)
		if len(list) != 1 || len(list[0].drafts) != 2 {
			b.Fatalf("mapped to %+v", list)
		}
		if records := h.newReceived(req, body, false, d, hidden).records(d, list); len(records) != 1 {
			b.Fatalf("%d records", len(records))
		}
	}
	b.ReportMetric(float64(b.N)/(cpuTime(b)-before).Seconds(), "webhooks/core-s")
}
