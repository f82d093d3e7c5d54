//go:build linux

package target

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"time"

	"pushcluster/bench/post"
	"pushcluster/bench/proc"
	"pushcluster/bench/swarm"
	"pushcluster/shared/freeaddr"
	"pushcluster/shared/nodeclient"
	"pushcluster/shared/push"
	"pushcluster/shared/signature"
)

// A ClusterConfig says which parts of the project's cluster run, and how.
type ClusterConfig struct {
	Nodes int // 0: one
	// Durable has Dispatch write the inbox. Without it everything else is done,
	// so that the difference is what the durable write costs.
	Durable bool
	// StoreURL is the store; empty: SQLite in the target's directory.
	StoreURL string
	// Collect has messages come in through Collect instead of Dispatch.
	Collect bool
	// Goroutines has the nodes read their sockets with a goroutine each, as they
	// do where there are no event loops.
	Goroutines bool
}

// Cluster is this project: Auth, Dispatch, push nodes and Redis, each a process.
func Cluster(name, about string, cfg ClusterConfig) Kind {
	return Kind{Name: name, About: about, start: func(ctx context.Context, t *Target, place Place, _ Options) error {
		c := &cluster{Target: t, cfg: cfg, place: place, signing: rand.Text(), apiKey: rand.Text()}
		return c.start(ctx)
	}}
}

type cluster struct {
	*Target
	cfg             ClusterConfig
	place           Place
	signing, apiKey string
	nodeIDs         []push.NodeID
}

func (c *cluster) start(ctx context.Context) error {
	nodes := max(1, c.cfg.Nodes)
	addrs, err := freeaddr.Take(6 + 2*nodes)
	if err != nil {
		return err
	}
	redis, redisAddr, err := startRedis(ctx, c.place)
	if err != nil {
		return err
	}
	c.redisAddr = redisAddr
	c.Processes = []*proc.Process{redis}
	storeURL := c.cfg.StoreURL
	if storeURL == "" {
		storeURL = "sqlite:" + filepath.Join(c.place.Dir, "store.db")
	}
	common := []string{"SIGNING_SECRETS=" + c.signing, "STORE_URL=" + storeURL, "REDIS_URL=redis://" + redisAddr, "LOG_LEVEL=warn",
		"AUTH_URL=http://" + addrs[0], "DISPATCH_URL=http://" + addrs[2], "DISPATCH_RPC_URL=http://" + addrs[2],
		"TOKEN_KEYS=" + tokenKeys, "API_KEYS=bench:" + c.apiKey}
	if err := c.program(ctx, "auth", "auth", addrs[0], addrs[1], common); err != nil {
		return err
	}
	dispatch := "dispatch"
	if !c.cfg.Durable {
		dispatch = "volatile"
	}
	if err := c.program(ctx, "dispatch", dispatch, addrs[2], addrs[3], common); err != nil {
		return err
	}
	for i := range nodes {
		if err := c.node(ctx, addrs[6+2*i], addrs[7+2*i], common); err != nil {
			return err
		}
	}
	// The nodes are what is measured first.
	c.Processes = append(c.Processes[3:len(c.Processes):len(c.Processes)], c.Processes[:3]...)
	c.Dialect, c.Recovers = swarm.Centrifugo(true), true
	if c.cfg.Collect {
		if err := c.program(ctx, "collect", "collect", addrs[4], addrs[5], common); err != nil {
			return err
		}
	}
	return c.publish(addrs[2], addrs[4])
}

// program starts one of the project's programs.
func (c *cluster) program(ctx context.Context, name, program, public, internal string, env []string) error {
	c.Profiles[name] = "http://" + internal // of several nodes, the last
	return c.run(ctx, c.place, proc.Spec{
		Name: name, Path: filepath.Join(c.place.Bin, program), Ready: answers200("http://" + public + "/readyz"),
		Env: append([]string{"LISTEN=" + public, "INTERNAL_LISTEN=" + internal, "NODE_ADDR=" + internal}, env...),
	})
}

// node starts a push node and learns its id.
func (c *cluster) node(ctx context.Context, public, internal string, env []string) error {
	if c.cfg.Goroutines {
		env = append(env[:len(env):len(env)], "SOCKETS=goroutine")
	}
	if err := c.program(ctx, "node", "pushnode", public, internal, env); err != nil {
		return err
	}
	c.Addrs = append(c.Addrs, public)
	c.free = append(c.free, "http://"+internal+"/debug/free")
	id, err := askRedis(ctx, c.redisAddr, "ZRANGE", "push:nodes", fmt.Sprint(len(c.nodeIDs)), "-1")
	if err != nil {
		return fmt.Errorf("learn the node's id: %w", err)
	}
	c.nodeIDs = append(c.nodeIDs, push.NodeID(id))
	return nil
}

func (c *cluster) publish(dispatch, collect string) error {
	keys, err := signature.ParseKeys([]string{c.signing})
	if err != nil {
		return err
	}
	signer := signature.NewSigner(keys)
	if c.cfg.Collect {
		client := post.New(collect, Connections)
		c.closers = append(c.closers, client.Close)
		c.Publisher = &collectAPI{addr: collect, client: client, apiKey: c.apiKey}
		return nil
	}
	client := post.New(dispatch, Connections)
	c.closers = append(c.closers, client.Close)
	c.Publisher = &dispatchAPI{addr: dispatch, client: client, signer: signer, ids: ids{prefix: "bench-"}}
	if len(c.nodeIDs) == 1 {
		nodes := nodeclient.New(nodeclient.Config{IdlePerNode: Connections}, signer, time.Now, nil)
		c.closers = append(c.closers, nodes.Close)
		c.Direct = &deliverAPI{client: nodes, node: c.nodeIDs[0], ids: ids{prefix: "direct-"}}
	}
	return nil
}
