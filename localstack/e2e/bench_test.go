package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"pushcluster/localstack/stack"
	"pushcluster/shared/push"
	"pushcluster/shared/registry/registrytest"
)

// BenchmarkDelivery sends messages through Collect, Dispatch and two nodes, all
// in this process, to clients with the SDK, durable writes included. It reports
// messages a second and the time from the post to the client's callback.
func BenchmarkDelivery(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) { benchmarkDelivery(b, batch) })
	}
}

const benchClients = 50

func benchmarkDelivery(b *testing.B, batch int) {
	ctx := context.Background()
	s, err := stack.Start(ctx, stack.Config{Dir: b.TempDir(), RedisURL: registrytest.Redis(b).URL(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var mu sync.Mutex
	var took []time.Duration
	var wait sync.WaitGroup
	for i := range benchClients {
		token, err := s.Token(push.UserID(fmt.Sprint(i)))
		if err != nil {
			b.Fatal(err)
		}
		client := centrifuge.NewJsonClient(stack.WebSocketURL(s.Node(i%2).URL), centrifuge.Config{Token: token})
		defer client.Close()
		client.OnPublication(func(e centrifuge.ServerPublicationEvent) {
			sent, err := strconv.ParseInt(string(e.Data), 10, 64)
			if err != nil {
				return
			}
			mu.Lock()
			took = append(took, time.Duration(time.Now().UnixNano()-sent))
			mu.Unlock()
			wait.Done()
		})
		connected := make(chan struct{})
		client.OnConnected(func(centrifuge.ConnectedEvent) { close(connected) })
		if err := client.Connect(); err != nil {
			b.Fatal(err)
		}
		<-connected
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	begin := time.Now()
	b.ResetTimer()
	for n := 0; n < b.N; n += batch {
		var messages []string
		for i := n; i < min(n+batch, b.N); i++ {
			messages = append(messages, fmt.Sprintf(`{"to":{"users":["%d"]},"data":%d}`, i%benchClients, time.Now().UnixNano()))
		}
		wait.Add(len(messages))
		req, err := http.NewRequest(http.MethodPost, s.Collect.URL+"/v1/messages", strings.NewReader("["+strings.Join(messages, ",")+"]"))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("X-API-Key", s.APIKey())
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			b.Fatalf("post is answered %s", resp.Status)
		}
	}
	wait.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/time.Since(begin).Seconds(), "messages/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
