package registry

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/registry/registrytest"
)

func TestParseURL(t *testing.T) {
	tests := map[string]struct {
		url   string
		addrs []string
		// wanted only where set
		user, password, master string
		db                     int
		cluster, tls           bool
	}{
		"plain":          {url: "redis://localhost", addrs: []string{"localhost:6379"}},
		"port and db":    {url: "redis://h:7000/3", addrs: []string{"h:7000"}, db: 3},
		"password":       {url: "redis://:s3cret@h", addrs: []string{"h:6379"}, password: "s3cret"},
		"user, TLS":      {url: "rediss://u:p@h:1/0", addrs: []string{"h:1"}, user: "u", password: "p", tls: true},
		"ipv6":           {url: "redis://[::1]:7000", addrs: []string{"[::1]:7000"}},
		"ipv6 no port":   {url: "redis://[::1]", addrs: []string{"[::1]:6379"}},
		"cluster":        {url: "redis+cluster://a,b:7001", addrs: []string{"a:6379", "b:7001"}, cluster: true},
		"one of cluster": {url: "rediss+cluster://a", addrs: []string{"a:6379"}, cluster: true, tls: true},
		"sentinel":       {url: "redis+sentinel://:p@a,b:7/main", addrs: []string{"a:26379", "b:7"}, master: "main", password: "p"},
		"sentinel, db":   {url: "redis+sentinel://a/main?db=2", addrs: []string{"a:26379"}, master: "main", db: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o, err := parseURL(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(o.Addrs, tt.addrs) || o.Username != tt.user || o.Password != tt.password || o.DB != tt.db ||
				o.MasterName != tt.master || o.IsClusterMode != tt.cluster || (o.TLSConfig != nil) != tt.tls {
				t.Errorf("parseURL(%q) = addrs %v user %q db %d master %q cluster %v tls %v", tt.url, o.Addrs, o.Username, o.DB, o.MasterName, o.IsClusterMode, o.TLSConfig != nil)
			}
		})
	}
}

func TestParseURLRefuses(t *testing.T) {
	tests := map[string]string{
		"empty":                   "",
		"other scheme":            "http://s3cret@h",
		"other kind":              "redis+ring://:s3cret@h",
		"no host":                 "redis://",
		"empty host in list":      "redis+cluster://a,,b",
		"several without cluster": "redis://a,b",
		"db that is none":         "redis://:s3cret@h/x",
		"negative db":             "redis://h/-1",
		"cluster with db":         "redis+cluster://h/1",
		"sentinel without master": "redis+sentinel://h",
		"unknown parameter":       "redis://:s3cret@h?pool=3",
		"unparsable":              "redis://:s3cret@h:x:y/%zz",
		"slash in password":       "redis://u:12/s3cret@h",
		"slash for a sentinel":    "redis+sentinel://u:12/s3cret@h/main",
		"question mark":           "redis://u:12?s3cret@h",
		"question and equals":     "redis://u:12?s3cret=@h",
		"hash in password":        "redis://u:12#s3cret@h",
		"percent in parameter":    "redis+sentinel://h/main?sentinel_password=s3cret%of",
	}
	for name, addr := range tests {
		t.Run(name, func(t *testing.T) {
			err := CheckURL(addr)
			if err == nil {
				t.Fatalf("parseURL(%q) succeeded", addr)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

// What a sentinel's password holds beside letters is no space and no end.
func TestParseURLSentinelPassword(t *testing.T) {
	o, err := parseURL("redis+sentinel://:p@a/main?sentinel_user=s&sentinel_password=a+b%2Bc%26d@e")
	if err != nil {
		t.Fatal(err)
	}
	if o.SentinelUsername != "s" || o.SentinelPassword != "a+b+c&d@e" || o.Password != "p" {
		t.Errorf("user %q, password %q of sentinels, %q of Redis; want s, a+b+c&d@e and p", o.SentinelUsername, o.SentinelPassword, o.Password)
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("redis://u:p@h:1/0")
	f.Add("rediss+cluster://a,b:1")
	f.Add("redis+sentinel://a,[::1]:2/m?db=1")
	f.Fuzz(func(t *testing.T, addr string) {
		o, err := parseURL(addr)
		if err == nil && (len(o.Addrs) == 0 || o.DB < 0) {
			t.Errorf("parseURL(%q) = %+v", addr, o)
		}
	})
}

// Config.Buffers bounds what pipelines take, for which the client has connections
// apart, with larger buffers unless it is told.
func TestBuffersOfPipelines(t *testing.T) {
	const (
		pipelines = 16
		buffers   = 8 << 10
		most      = 1 << 20 // the client's own sizes would be 2.5 MiB
	)
	server := registrytest.Redis(t)
	r, err := Open(server.URL(), nil, Config{Buffers: buffers, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var waiting sync.WaitGroup
	for i := range pipelines {
		waiting.Go(func() {
			p := r.rdb.Pipeline()
			p.BLPop(t.Context(), time.Minute, fmt.Sprint("key", i))
			if _, err := p.Exec(t.Context()); err != nil {
				t.Errorf("pipeline %d: %v", i, err)
			}
		})
	}
	// Each has a connection of its own, for it waits until it gets something.
	for s := (&redis.PoolStats{}); s.PipelineStats == nil || s.TotalConns+s.PipelineStats.TotalConns < pipelines; s = r.rdb.PoolStats() {
		runtime.Gosched()
	}
	for i := range pipelines {
		if err := r.rdb.RPush(t.Context(), fmt.Sprint("key", i), 1).Err(); err != nil {
			t.Error(err)
		}
	}
	waiting.Wait()
	if took := heap() - before; took > most {
		t.Errorf("%d pipelines left %d KiB, want at most %d", pipelines, took>>10, most>>10)
	}
}
