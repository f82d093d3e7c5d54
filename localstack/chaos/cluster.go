package chaos

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/freeaddr"
	"pushcluster/shared/token"
)

// keyName is the name of the API key: the ids of the messages begin with it.
const keyName = "chaos"

// A clusterConfig says what is special about a scenario's cluster. The zero
// value is the ordinary one.
type clusterConfig struct {
	drain    time.Duration // of the nodes; 0: 8 s
	ferretdb bool          // the MongoDB store, on FerretDB, in place of SQLite

	proxyDelivery bool // a proxy between Dispatch and each node
	proxyHandoff  bool // a proxy between Collect and Dispatch
	proxyRedis    bool // a proxy between each node and Redis
	proxyAppend   bool // a proxy between Dispatch and Redis
	double        bool // every hand-off reaches Dispatch twice
	slow          bool // some clients can be made slow
	sentinel      bool // Redis is a primary with a replica, under Sentinel
	sharded       bool // Redis is a Cluster
}

// pingInterval is short, so that clients notice a frozen node soon.
const pingInterval = 5 * time.Second

// A cluster is one whole system of processes.
type cluster struct {
	dir, bin string
	cfg      clusterConfig
	apiKey   string
	signing  string
	tokenKey string
	minter   *token.Minter
	storeURL string

	redis                   *redisServer   // nil where there are replicas
	replicas                *replicas      // nil unless asked for
	store                   *ferretProcess // nil with SQLite
	auth, collect, dispatch *process
	nodes                   []*pushNode
	collectURL              string

	handoff, appends *proxy // nil unless asked for
	proxies          []*proxy
	doubler          *doubler // nil unless asked for
	wg               sync.WaitGroup
	end              context.CancelFunc
}

// A pushNode is one push node process.
type pushNode struct {
	*process
	public   string // host:port of the public port
	up       atomic.Bool
	delivery *proxy // nil unless asked for
	redis    *proxy
}

const nodeCount = 3

// newCluster prepares a cluster in dir of the programs in bin. It starts
// nothing but proxies.
func newCluster(bin, dir string, cfg clusterConfig) (*cluster, error) {
	if cfg.drain == 0 {
		cfg.drain = 8 * time.Second
	}
	c := &cluster{dir: dir, bin: bin, cfg: cfg, apiKey: rand.Text(), signing: rand.Text(), tokenKey: rand.Text() + rand.Text(),
		storeURL: "sqlite:" + filepath.Join(dir, "store.db"), end: func() {}}
	keys, err := token.ParseKeys(keyName + ":HS256:" + c.tokenKey)
	if err != nil {
		return nil, err
	}
	if c.minter, err = token.NewMinter(token.Config{Keys: keys}, time.Now); err != nil {
		return nil, err
	}
	addrs, err := freeaddr.Take(8 + 2*nodeCount)
	if err != nil {
		return nil, err
	}
	if err := c.wire(addrs); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// wire makes the processes, and the proxies between them.
func (c *cluster) wire(addrs []string) error {
	if err := c.wireRedis(addrs[6]); err != nil {
		return err
	}
	if c.cfg.ferretdb {
		var err error
		if c.store, err = newFerret(c.dir, addrs[len(addrs)-1]); err != nil {
			return err
		}
		c.storeURL = c.store.url()
	}
	signing := "SIGNING_SECRETS=" + c.signing
	storeURL := "STORE_URL=" + c.storeURL

	c.auth = c.program("auth", "auth", addrs[0], addrs[1], signing, "TOKEN_KEYS="+keyName+":HS256:"+c.tokenKey)

	dispatchRedis, err := c.redisURL(c.cfg.proxyAppend, &c.appends)
	if err != nil {
		return err
	}
	c.dispatch = c.program("dispatch", "dispatch", addrs[2], addrs[3], signing, storeURL, "REDIS_URL="+dispatchRedis)

	handoff, err := c.through(c.cfg.proxyHandoff, &c.handoff, addrs[2])
	if err != nil {
		return err
	}
	if c.cfg.double {
		if c.doubler, err = newDoubler(addrs[2]); err != nil {
			return err
		}
		handoff = c.doubler.addr
	}
	c.collect = c.program("collect", "collect", addrs[4], addrs[5], signing, storeURL,
		"API_KEYS="+keyName+":"+c.apiKey, "DISPATCH_URL=http://"+handoff)
	c.collectURL = "http://" + addrs[4]

	for i := range nodeCount {
		n := &pushNode{public: addrs[7+2*i]}
		internal := addrs[8+2*i]
		reached, err := c.through(c.cfg.proxyDelivery, &n.delivery, internal)
		if err != nil {
			return err
		}
		redis, err := c.redisURL(c.cfg.proxyRedis, &n.redis)
		if err != nil {
			return err
		}
		n.process = c.program(fmt.Sprintf("node%d", i+1), "pushnode", n.public, internal, signing, storeURL,
			"REDIS_URL="+redis, "AUTH_URL=http://"+addrs[0], "NODE_ADDR="+reached,
			"DRAIN_TIME="+c.cfg.drain.String(), "PING_INTERVAL="+pingInterval.String())
		c.nodes = append(c.nodes, n)
	}
	return nil
}

// wireRedis makes the one redis-server, at addr, or the several that the scenario
// asks for.
func (c *cluster) wireRedis(addr string) error {
	if !c.cfg.sentinel && !c.cfg.sharded {
		c.redis = newRedis(c.dir, addr)
		return nil
	}
	addrs, err := freeaddr.Take(replicasAddrs)
	if err != nil {
		return err
	}
	if c.cfg.sentinel {
		c.replicas, err = newSentinels(c.dir, addrs)
	} else {
		c.replicas = newRedisCluster(c.dir, addrs)
	}
	return err
}

// redisURL returns how Redis is reached: if it is one server and proxied, through a
// new proxy, which p is set to.
func (c *cluster) redisURL(proxied bool, p **proxy) (string, error) {
	if c.replicas != nil {
		return c.replicas.url, nil
	}
	addr, err := c.through(proxied, p, c.redis.addr)
	return "redis://" + addr, err
}

// program makes a process of one of the project's programs.
func (c *cluster) program(name, program, public, internal string, env ...string) *process {
	clock := filepath.Join(c.dir, name+".clock")
	return &process{
		name: name, program: filepath.Join(c.bin, program), log: filepath.Join(c.dir, name+".log"),
		ready: "http://" + public + "/readyz", metrics: "http://" + internal + "/metrics",
		env: append(env, "LISTEN="+public, "INTERNAL_LISTEN="+internal, "CHAOS_CLOCK="+clock),
	}
}

// through returns the address by which target is reached: its own, or that of
// a new proxy, which it sets p to.
func (c *cluster) through(proxied bool, p **proxy, target string) (string, error) {
	if !proxied {
		return target, nil
	}
	made, err := newProxy(target)
	if err != nil {
		return "", err
	}
	c.proxies = append(c.proxies, made)
	*p = made
	return made.addr, nil
}

// moveClock makes a process' wall clock be off by d.
func (c *cluster) moveClock(p *process, d time.Duration) error {
	return os.WriteFile(filepath.Join(c.dir, p.name+".clock"), []byte(d.String()), 0o600)
}

// start starts everything and returns when all are ready.
func (c *cluster) start(ctx context.Context) error {
	if err := c.startRedis(ctx); err != nil {
		return err
	}
	if c.store != nil {
		if err := c.store.start(ctx); err != nil {
			return err
		}
	}
	if err := startAll(ctx, c.auth, c.dispatch); err != nil {
		return err
	}
	list := []*process{c.collect}
	for _, n := range c.nodes {
		list = append(list, n.process)
	}
	if err := startAll(ctx, list...); err != nil {
		return err
	}
	watching, end := context.WithCancel(context.WithoutCancel(ctx))
	c.end = end
	for _, n := range c.nodes {
		n.up.Store(true)
		c.wg.Go(func() { n.watch(watching) })
	}
	return nil
}

// startRedis starts what Redis is made of.
func (c *cluster) startRedis(ctx context.Context) error {
	if c.replicas != nil {
		return c.replicas.start(ctx)
	}
	return c.redis.start(ctx)
}

// redisProcesses returns what Redis is made of.
func (c *cluster) redisProcesses() []*process {
	switch {
	case c.replicas != nil:
		return c.replicas.processes()
	case c.redis != nil:
		return []*process{&c.redis.process}
	}
	return nil // it was never wired
}

func startAll(ctx context.Context, list ...*process) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range list {
		g.Go(func() error { return p.start(ctx) })
	}
	return g.Wait()
}

// watch keeps asking whether the node is ready, as a balancer does.
func (n *pushNode) watch(ctx context.Context) {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			n.up.Store(n.running() && isReady(ctx, n.ready))
		}
	}
}

// processes returns every program of the project in the cluster.
func (c *cluster) processes() []*process {
	list := []*process{c.auth, c.collect, c.dispatch}
	for _, n := range c.nodes {
		list = append(list, n.process)
	}
	return list
}

// check returns what ended without being told to.
func (c *cluster) check() error {
	var errs []error
	for _, p := range append(c.redisProcesses(), c.processes()...) {
		errs = append(errs, p.check())
	}
	return errors.Join(errs...)
}

// close kills everything that runs.
func (c *cluster) close() {
	c.end()
	c.wg.Wait()
	for _, p := range c.processes() {
		if p != nil {
			p.kill()
		}
	}
	for _, p := range c.redisProcesses() {
		p.kill()
	}
	if c.store != nil {
		c.store.kill()
	}
	if c.doubler != nil {
		c.doubler.close()
	}
	for _, p := range c.proxies {
		p.close()
	}
}
