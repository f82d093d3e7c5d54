package registry

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// longest bounds what a context without end could wait for a socket.
const longest = 30 * time.Second

// Open returns a registry on the Redis that addr names. It asks no server.
//
//	redis://[user:password@]host[:port][/db]
//	redis+cluster://[user:password@]host[:port],host[:port]
//	redis+sentinel://[user:password@]host[:port],host[:port]/master[?db=N]
//
// With rediss for redis the connections use TLS, those to sentinels too. The
// default port is 6379, of a sentinel 26379. A user and password for the sentinels
// themselves go into the query: sentinel_user and sentinel_password. With TLS it
// may hold ca_file (who signs servers, in place of the system's authorities),
// cert_file and key_file (a client's certificate; without key_file cert_file holds
// both), and server_name (the name in the servers' certificates, where it is not
// the host).
func Open(addr string, terms Terms, cfg Config) (*Registry, error) {
	opts, err := parseURL(addr)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	opts.DialTimeout = cfg.Timeout
	opts.ReadTimeout = longest // each call's context ends sooner
	opts.WriteTimeout = longest
	opts.PoolTimeout = cfg.Timeout
	opts.ContextTimeoutEnabled = true
	opts.MaxRetries = 2
	opts.DialerRetries = 1
	opts.PoolSize = 8 * max(2, runtime.GOMAXPROCS(0))
	opts.ReadBufferSize, opts.WriteBufferSize = cfg.Buffers, cfg.Buffers
	opts.PipelineReadBufferSize, opts.PipelineWriteBufferSize = cfg.Buffers, cfg.Buffers // a pool of their own
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return New(redis.NewUniversalClient(opts), terms, cfg), nil
}

// CheckURL returns nil if addr is one that [Open] understands. Its error shows no
// password.
func CheckURL(addr string) error {
	_, err := parseURL(addr)
	return err
}

// errCredentials is what an address gets in which the rest of a password would be
// taken for something else, and shown.
var errCredentials = errors.New("redis url: a user or password holds a character that must be percent-encoded")

// parseURL turns a REDIS_URL into options. Its errors name no password.
func parseURL(addr string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(addr)
	if err != nil {
		// err would show the password
		return nil, errors.New("redis url: not a URL, or a user or password holds a character that must be percent-encoded")
	}
	if u.Fragment != "" || strings.Contains(u.Path, "@") {
		return nil, errCredentials
	}
	base, kind, _ := strings.Cut(u.Scheme, "+")
	opts := &redis.UniversalOptions{Protocol: 2} // in RESP3 the client looks for push messages before every reply; there are none
	if base != "redis" && base != "rediss" {
		return nil, fmt.Errorf("redis url: scheme %q is not redis or rediss, alone or with +cluster or +sentinel", u.Scheme)
	}
	if u.User != nil {
		opts.Username = u.User.Username()
		opts.Password, _ = u.User.Password()
	}
	query, err := url.ParseQuery(strings.ReplaceAll(u.RawQuery, "+", "%2B")) // passwords hold that more often than spaces
	if err != nil {
		return nil, errors.New("redis url: a parameter holds a character that must be percent-encoded")
	}
	take := func(name string) string {
		v := query.Get(name)
		query.Del(name)
		return v
	}
	if base == "rediss" {
		if opts.TLSConfig, err = readTLS(take); err != nil {
			return nil, fmt.Errorf("redis url: %w", err)
		}
	}
	port, path := "6379", strings.Trim(u.Path, "/")
	db := take("db")
	switch kind {
	case "":
		if strings.Contains(u.Host, ",") {
			return nil, errors.New("redis url: several hosts need +cluster or +sentinel")
		}
		if path != "" {
			db = path
		}
	case "cluster":
		if path != "" || db != "" {
			return nil, errors.New("redis url: a cluster has no databases")
		}
		opts.IsClusterMode = true
	case "sentinel":
		if path == "" {
			return nil, errors.New("redis url: a sentinel needs the master's name as path")
		}
		port = "26379"
		opts.MasterName = path
		opts.SentinelUsername, opts.SentinelPassword = take("sentinel_user"), take("sentinel_password")
	default:
		return nil, fmt.Errorf("redis url: %q is not +cluster or +sentinel", "+"+kind)
	}
	for name := range query {
		if strings.Contains(u.RawQuery, "@") {
			return nil, errCredentials
		}
		if slices.Contains(tlsParameters, name) {
			return nil, fmt.Errorf("redis url: parameter %q needs rediss", name)
		}
		return nil, fmt.Errorf("redis url: parameter %q is not known here", name)
	}
	if db != "" {
		if opts.DB, err = strconv.Atoi(db); err != nil || opts.DB < 0 {
			return nil, fmt.Errorf("redis url: database %q is not a number", db)
		}
	}
	opts.Addrs, err = hosts(u.Host, port)
	return opts, err
}

// hosts splits a list of hosts and gives those without a port the default one.
func hosts(list, port string) ([]string, error) {
	var addrs []string
	for h := range strings.SplitSeq(list, ",") {
		if h == "" {
			return nil, errors.New("redis url: a host is empty")
		}
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), port)
		}
		addrs = append(addrs, h)
	}
	return addrs, nil
}
