package hub_test

import (
	"fmt"
	"testing"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// counter is the cheapest connection there is: it encodes and counts.
type counter struct{ packets int }

func (c *counter) Publish(p *hub.Publication) {
	if _, err := p.JSON(); err == nil {
		c.packets++
	}
}

func (c *counter) Omit(push.Channel, store.Omission) {}

// BenchmarkDeliver gives one message after another to one channel of that many
// subscriptions; the messages' encoding is included, once for all of them.
func BenchmarkDeliver(b *testing.B) {
	for _, subs := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("subscriptions=%d", subs), func(b *testing.B) {
			h := hub.New(hub.Config{})
			var conn counter
			for range subs {
				live(b, h, "news", &conn, 1)
			}
			e := entry("news", 1, 0)
			b.ReportAllocs()
			for b.Loop() {
				e.Offset, e.Prev = e.Offset+1, e.Offset
				if outcome, _ := h.Deliver(e); outcome != hub.Taken {
					b.Fatalf("Deliver = %v, want Taken", outcome)
				}
			}
		})
	}
}

// BenchmarkPersonal gives messages to one of many personal channels in turn:
// the cost must not grow with their number.
func BenchmarkPersonal(b *testing.B) {
	for _, channels := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("channels=%d", channels), func(b *testing.B) {
			h := hub.New(hub.Config{})
			var conn counter
			entries := make([]push.Entry, channels)
			for i := range entries {
				entries[i] = entry(push.Personal(push.UserID(fmt.Sprint(i))), 1, 0)
				live(b, h, entries[i].Channel, &conn, 1)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				e := &entries[i%channels]
				e.Offset, e.Prev = e.Offset+1, e.Offset
				if outcome, _ := h.Deliver(*e); outcome != hub.Taken {
					b.Fatalf("Deliver = %v, want Taken", outcome)
				}
			}
		})
	}
}

// BenchmarkEncode is the codec: one publication, for each of the protocols.
func BenchmarkEncode(b *testing.B) {
	e := entry("#42", 3_600_000_000_000_000, 0)
	e.Message.Event = "order.shipped"
	encoders := map[string]func(*hub.Publication) ([]byte, error){
		"json": (*hub.Publication).JSON, "protobuf": (*hub.Publication).Protobuf,
	}
	for name, encode := range encoders {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encode(&hub.Publication{Entry: e}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
