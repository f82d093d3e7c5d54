package registry_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

// BenchmarkAppend measures the append of one message to that many channels
// against the least that Redis could do: as many plain XADDs in one pipeline.
func BenchmarkAppend(b *testing.B) {
	s := registrytest.Redis(b)
	r := newBench(b, s, registry.Config{})
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("append/%d", n), func(b *testing.B) {
			items := make([]registry.Item, n)
			for i := 0; b.Loop(); i++ {
				m := message(fmt.Sprint("m", i))
				for k := range items {
					items[k] = registry.Item{Channel: push.Channel(fmt.Sprintf("#%d-%d", n, k)), Message: m, Asked: true}
				}
				if _, err := r.Append(b.Context(), items); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "items/s")
		})
		b.Run(fmt.Sprintf("xadd/%d", n), func(b *testing.B) {
			rdb := redis.NewClient(&redis.Options{Addr: s.Addr()})
			defer rdb.Close()
			for b.Loop() {
				m := message("m")
				p := rdb.Pipeline()
				for k := range n {
					p.XAdd(b.Context(), &redis.XAddArgs{Stream: fmt.Sprintf("x%d-%d", n, k), MaxLen: 1000, Values: []any{"m", []byte(m.Data)}})
				}
				if _, err := p.Exec(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "items/s")
		})
	}
}

// BenchmarkRegisterAndRead measures what one connecting channel costs, with
// many at once, which share pipelines.
func BenchmarkRegisterAndRead(b *testing.B) {
	r := newBench(b, registrytest.Redis(b), registry.Config{})
	for i := range 100 {
		r.add(b, push.Channel(fmt.Sprint("#", i)), "m")
	}
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for i := int64(0); pb.Next(); i++ {
			_, err := r.RegisterAndRead(b.Context(), "n1", i, registry.LogQuery{Channel: push.Channel(fmt.Sprint("#", i%100))})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}
