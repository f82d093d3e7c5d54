// Command centrifuge is the Go library centrifuge as a server, for comparison:
// JWT checked at connect, a personal channel and "all" with history and recovery
// through its Redis broker, and the publish API of bench/floors.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/centrifugal/centrifuge"
	"golang.org/x/sync/errgroup"
)

const (
	historySize = 100
	historyTime = time.Hour
	// batchWorkers is how many messages of a batch are published at once, so that
	// the library's Redis client can put them in one pipeline.
	batchWorkers = 64
	maxBody      = 16 << 20 // bytes
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9000", "where clients connect: /connection/websocket")
	pub := flag.String("pub", "127.0.0.1:9001", "the publish API, over HTTP")
	redis := flag.String("redis", "127.0.0.1:6379", "host:port of Redis")
	secret := flag.String("secret", "", "key of HS256 tokens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *pub, *redis, []byte(*secret)); err != nil {
		fmt.Fprintln(os.Stderr, "centrifuge:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, pub, redis string, secret []byte) error {
	node, err := newNode(redis, secret)
	if err != nil {
		return err
	}
	if err := node.Run(); err != nil {
		return err
	}
	defer node.Shutdown(context.WithoutCancel(ctx))
	clients := http.NewServeMux()
	clients.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		UseWriteBufferPool: true, ReadBufferSize: 512,
		CheckOrigin: func(*http.Request) bool { return true },
	}))
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range []*http.Server{{Addr: addr, Handler: clients}, {Addr: pub, Handler: api(node)}} {
		g.Go(func() error {
			if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			return s.Close()
		})
	}
	return g.Wait()
}

func newNode(redis string, secret []byte) (*centrifuge.Node, error) {
	node, err := centrifuge.New(centrifuge.Config{
		LogLevel: centrifuge.LogLevelWarn, LogHandler: func(e centrifuge.LogEntry) { fmt.Fprintln(os.Stderr, e.Message, e.Fields) },
	})
	if err != nil {
		return nil, err
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: redis})
	if err != nil {
		return nil, err
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		return nil, err
	}
	node.SetBroker(broker)
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		user, err := userOf(e.Token, secret)
		if err != nil {
			return centrifuge.ConnectReply{}, centrifuge.DisconnectInvalidToken
		}
		return centrifuge.ConnectReply{
			Credentials: &centrifuge.Credentials{UserID: user},
			Subscriptions: map[string]centrifuge.SubscribeOptions{
				"#" + user: {EnableRecovery: true},
				"all":      {EnableRecovery: true},
			},
		}, nil
	})
	return node, nil
}

// userOf returns the user that an HS256 token is of.
func userOf(token string, secret []byte) (string, error) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return "", errors.New("not a token")
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(token[:i]))
	signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil || !hmac.Equal(signature, mac.Sum(nil)) {
		return "", errors.New("signature")
	}
	_, payload, _ := strings.Cut(token[:i], ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return "", err
	}
	var claims struct {
		Subject string `json:"sub"`
		Expires int64  `json:"exp"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return "", err
	}
	if claims.Subject == "" || claims.Expires < time.Now().Unix() {
		return "", errors.New("expired")
	}
	return claims.Subject, nil
}

// api is the publish API.
func api(node *centrifuge.Node) http.Handler {
	publish := func(channel string, data []byte) error {
		_, err := node.Publish(channel, data, centrifuge.WithHistory(historySize, historyTime))
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish", answer(func(r *http.Request, body []byte) error {
		return publish("#"+r.URL.Query().Get("u"), body)
	}))
	mux.HandleFunc("POST /broadcast", answer(func(_ *http.Request, body []byte) error { return publish("all", body) }))
	mux.HandleFunc("POST /batch", answer(func(_ *http.Request, body []byte) error {
		var g errgroup.Group
		g.SetLimit(batchWorkers)
		for len(body) > 6 {
			user, size := binary.BigEndian.Uint32(body), int(binary.BigEndian.Uint16(body[4:]))
			if len(body) < 6+size {
				break
			}
			data := body[6 : 6+size]
			g.Go(func() error { return publish(fmt.Sprint("#", user), data) })
			body = body[6+size:]
		}
		return g.Wait()
	}))
	mux.HandleFunc("POST /free", func(http.ResponseWriter, *http.Request) { debug.FreeOSMemory() })
	return mux
}

func answer(f func(r *http.Request, body []byte) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			err = f(r, body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte("{}")) // who asked has left, or takes it
	}
}
