package dispatchfn_test

import (
	"fmt"
	"testing"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
)

// BenchmarkOutbox works through a backlog of 2,000 messages on SQLite and Redis,
// for nobody who is connected: of as many users, and of one topic.
func BenchmarkOutbox(b *testing.B) {
	const backlog = 2000
	for name, to := range map[string]func(i int) push.Recipients{
		"users": func(i int) push.Recipients { return toUsers(push.UserID(fmt.Sprint(i))) },
		"topic": func(int) push.Recipients { return push.Recipients{Channels: []push.Channel{"news"}} },
	} {
		b.Run(name, func(b *testing.B) {
			c := newCluster(b, dispatchfn.Config{}, nil)
			for run := 0; b.Loop(); run++ {
				b.StopTimer()
				var messages []*push.Message
				for i := range backlog {
					messages = append(messages, message(fmt.Sprintf("%d/%d", run, i), to(i)))
				}
				c.line(nil, messages...)
				b.StartTimer()
				for waits := true; waits; {
					if err := c.RunSchedule(b.Context()); err != nil {
						b.Fatal(err)
					}
					var err error
					if waits, err = c.store.AnyBacklog(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(backlog*b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
