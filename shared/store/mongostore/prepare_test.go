package mongostore_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/store/mongostore"
	"pushcluster/shared/store/storetest"
)

// A tap passes on what clients and one server say, and keeps what clients said.
type tap struct {
	mu   sync.Mutex // guards what follows
	said bytes.Buffer
}

// Write keeps text.
func (w *tap) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.Write(text)
}

// open listens in front of the server at addr, for the length of the test, and
// returns where.
func (w *tap) open(t *testing.T, addr string) string {
	l := listen(t)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() {
				_, _ = io.Copy(server, io.TeeReader(client, w))
				_ = server.Close()
			})
			running.Go(func() {
				_, _ = io.Copy(client, server)
				_ = client.Close()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return l.Addr().String()
}

// TestIndexesHaveTime reads how long the server is told to work at each index: not
// as short as at other calls, for it may have to look at a large collection.
func TestIndexesHaveTime(t *testing.T) {
	uri, err := url.Parse(storetest.FerretDB(t))
	if err != nil {
		t.Fatal(err)
	}
	var w tap
	uri.Host = w.open(t, uri.Host)
	s, err := mongostore.Open(uri.String(), mongostore.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Prepare(t.Context())
	if closed := s.Close(); err != nil || closed != nil {
		t.Fatal(err, closed)
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	orders := bytes.Split(w.said.Bytes(), []byte("\x02createIndexes\x00"))[1:]
	if len(orders) == 0 {
		t.Fatal("the server was told of no index")
	}
	for i, order := range orders {
		_, limit, ok := bytes.Cut(order, []byte("\x12maxTimeMS\x00"))
		if !ok || len(limit) < 8 {
			t.Fatalf("index %d: the server is told no time", i)
		}
		if ms := time.Duration(binary.LittleEndian.Uint64(limit)) * time.Millisecond; ms < 5*time.Minute || ms > 10*time.Minute {
			t.Errorf("index %d: the server has %v, want 5 to 10 minutes", i, ms)
		}
	}
}
