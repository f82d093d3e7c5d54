package registry_test

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

// BenchmarkRedisCostOfAll measures the processor time that Redis spends on one
// append of a message to all, in pipelines of 100, by the number of nodes that
// have a route. How many connections those have, Redis never learns.
func BenchmarkRedisCostOfAll(b *testing.B) {
	for _, nodes := range []int{1, 5, 25} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			s := registrytest.Redis(b)
			r := newBench(b, s, registry.Config{})
			rdb := redis.NewClient(&redis.Options{Addr: s.Addr()})
			b.Cleanup(func() { _ = rdb.Close() })
			for n := range nodes {
				id := push.NodeID(fmt.Sprintf("127.0.0.%d:8811~abcdefgh", n+1))
				if err := r.AddRoutes(b.Context(), id, []registry.ChannelRoute{{Channel: push.All, Registration: 1}}); err != nil {
					b.Fatal(err)
				}
			}
			items := make([]registry.Item, 100)
			n := 0
			before := cpu(b, rdb)
			for b.Loop() {
				for i := range items {
					m := message(fmt.Sprint("bench/", n))
					items[i] = registry.Item{Channel: push.All, Message: m}
					n++
				}
				if _, err := r.Append(b.Context(), items); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b, rdb)-before).Nanoseconds())/1000/float64(b.N*len(items)), "redis-µs/append")
		})
	}
}

// BenchmarkRedisCost measures the processor time that Redis itself spends: on
// one append of a message to one channel, and on the least that a log could
// cost, a plain XADD of the same bytes. Both come in pipelines of 100, to as
// many channels in turn, and every channel has a route.
func BenchmarkRedisCost(b *testing.B) {
	const pipeline = 100
	for _, channels := range []int{2000, 20} {
		s := registrytest.Redis(b)
		r := newBench(b, s, registry.Config{})
		rdb := redis.NewClient(&redis.Options{Addr: s.Addr()})
		b.Cleanup(func() { _ = rdb.Close() })
		var routes []registry.ChannelRoute
		for c := range channels {
			routes = append(routes, registry.ChannelRoute{Channel: push.Channel(fmt.Sprint("#", c)), Registration: 1})
		}
		if err := r.AddRoutes(b.Context(), "127.0.0.1:8811~abcdefgh", routes); err != nil {
			b.Fatal(err)
		}
		m := message("m")
		m.Data = []byte(`"` + strings.Repeat("x", 126) + `"`)
		m.Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		items := make([]registry.Item, pipeline)
		n := 0
		b.Run(fmt.Sprintf("append/channels=%d", channels), func(b *testing.B) {
			before := cpu(b, rdb)
			for b.Loop() {
				for i := range items {
					one := *m
					one.ID = push.MessageID(fmt.Sprint("bench/", n))
					items[i] = registry.Item{Channel: push.Channel(fmt.Sprint("#", n%channels)), Message: &one}
					n++
				}
				if _, err := r.Append(b.Context(), items); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b, rdb)-before).Nanoseconds())/1000/float64(b.N*pipeline), "redis-µs/append")
		})
		payload := strings.Repeat("x", 330)
		b.Run(fmt.Sprintf("xadd/channels=%d", channels), func(b *testing.B) {
			before := cpu(b, rdb)
			n := 0
			for b.Loop() {
				p := rdb.Pipeline()
				for range pipeline {
					p.Do(b.Context(), "XADD", "x"+strconv.Itoa(n%channels), "*", "m", payload)
					n++
				}
				if _, err := p.Exec(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b, rdb)-before).Nanoseconds())/1000/float64(b.N*pipeline), "redis-µs/append")
		})
	}
}

// BenchmarkRegisterCost measures the processor time that Redis itself spends on
// channels that connect for the first time, many at once, and on as many that
// come back and missed one message.
func BenchmarkRegisterCost(b *testing.B) {
	const atOnce = 200
	for _, name := range []string{"last", "read"} {
		b.Run(name, func(b *testing.B) {
			s := registrytest.Redis(b)
			r := newBench(b, s, registry.Config{})
			rdb := redis.NewClient(&redis.Options{Addr: s.Addr()})
			b.Cleanup(func() { _ = rdb.Close() })
			place := make([]push.Offset, b.N)
			for i := 0; name == "read" && i < b.N; i++ {
				c := push.Channel(fmt.Sprint("#", i))
				place[i] = r.add(b, c, "m1").Offset
				r.add(b, c, "m2")
			}
			var next atomic.Int64
			before := cpu(b, rdb)
			b.ResetTimer()
			var g errgroup.Group
			for range atOnce {
				g.Go(func() error {
					for {
						i := next.Add(1) - 1
						if i >= int64(b.N) {
							return nil
						}
						c := push.Channel(fmt.Sprint("#", i))
						var err error
						if name == "last" {
							_, err = r.RegisterAndLast(b.Context(), "127.0.0.1:8811~abcdefgh", i+1, c)
						} else {
							_, err = r.RegisterAndRead(b.Context(), "127.0.0.1:8811~abcdefgh", i+1, registry.LogQuery{Channel: c, After: place[i]})
						}
						if err != nil {
							return err
						}
					}
				})
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64((cpu(b, rdb)-before).Nanoseconds())/1000/float64(b.N), "redis-µs/channel")
		})
	}
}

// cpu returns the processor time that a Redis has used.
func cpu(b *testing.B, rdb *redis.Client) time.Duration {
	b.Helper()
	text, err := rdb.Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	var used float64
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				b.Fatal(err)
			}
			used += seconds
		}
	}
	return time.Duration(used * float64(time.Second))
}
