//go:build linux

// Package target starts the servers that are compared: the floors, this
// project's cluster, and peers. Each is processes on one core, a way to connect
// and a way to publish.
package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"pushcluster/bench/proc"
	"pushcluster/bench/swarm"
	"pushcluster/shared/push"
	"pushcluster/shared/token"
)

// Secret signs the tokens of every target, by HS256. It is nobody's secret.
const Secret = "bench-secret-0123456789abcdef0123456789"

const keyID = "bench"

// ErrMissing means that this machine lacks what a target needs.
var ErrMissing = errors.New("missing on this machine")

// A Place is where a target runs.
type Place struct {
	Bin string // directory of the programs that Build made
	Dir string // for logs and data; the target's own
	CPU int    // the core of the servers; negative: any
}

// An Options says what is special about a start.
type Options struct {
	History bool // keep what is needed for clients to come back to
}

// A Kind is one kind of server, not started.
type Kind struct {
	Name  string
	About string // a line for people
	start func(ctx context.Context, t *Target, place Place, opts Options) error
}

// A Target is one started server.
type Target struct {
	Name      string
	Addrs     []string // where clients connect, host:port; one for each node
	Dialect   swarm.Dialect
	Publisher Publisher
	// Direct publishes to the node without what comes before it, nil where there
	// is nothing before it.
	Direct Publisher
	// Recovers says that clients can come back for what they missed.
	Recovers bool
	// Profiles are base URLs of net/http/pprof, by the name of the process.
	Profiles map[string]string
	// Processes are what is measured, the one that holds the connections first.
	Processes []*proc.Process

	free      []string // URLs that have Go processes give memory back
	redisAddr string   // "" without Redis
	closers   []func()
}

// Start starts a server of this kind and waits until it is ready. An error that
// wraps [ErrMissing] means that it cannot be on this machine.
func (k Kind) Start(ctx context.Context, place Place, opts Options) (*Target, error) {
	t := &Target{Name: k.Name, Profiles: make(map[string]string)}
	if err := k.start(ctx, t, place, opts); err != nil {
		t.Stop()
		return nil, fmt.Errorf("start %s: %w", k.Name, err)
	}
	return t, nil
}

// Stop ends everything the target started.
func (t *Target) Stop() {
	for _, f := range t.closers {
		f()
	}
	for _, p := range t.Processes {
		p.Kill() // nothing here needs a goodbye
	}
	t.closers, t.Processes = nil, nil
}

// run adds a process to the target.
func (t *Target) run(ctx context.Context, place Place, spec proc.Spec) error {
	spec.Dir, spec.CPU = place.Dir, place.CPU
	p, err := proc.Start(ctx, spec)
	if err != nil {
		return err
	}
	t.Processes = append(t.Processes, p)
	return nil
}

// Check returns an error if one of the target's processes is gone.
func (t *Target) Check() error {
	var errs []error
	for _, p := range t.Processes {
		errs = append(errs, p.Check())
	}
	return errors.Join(errs...)
}

// CPU returns the processor time that every process has used, by its name.
// Nodes count together.
func (t *Target) CPU() (map[string]time.Duration, error) {
	used := make(map[string]time.Duration, len(t.Processes))
	for _, p := range t.Processes {
		d, err := p.CPU()
		if err != nil {
			return nil, err
		}
		used[p.Name] += d
	}
	return used, nil
}

// Column returns the name of the process that holds the connections.
func (t *Target) Column() string { return t.Processes[0].Name }

// RSS returns the resident memory of the process that holds the connections,
// after it gave back what it did not need, where it can be asked to.
func (t *Target) RSS(ctx context.Context) (int64, error) {
	for _, url := range t.free {
		if err := t.giveBack(ctx, url); err != nil {
			return 0, err
		}
	}
	return t.Processes[0].RSS()
}

// giveBack posts to url. A program that does not know it collects its garbage,
// if its profiles are there, and is given time to return it.
func (t *Target) giveBack(ctx context.Context, url string) error {
	status, err := ask(ctx, http.MethodPost, url)
	if err != nil || status/100 == 2 {
		return err
	}
	heap := url[:strings.LastIndexByte(url, '/')] + "/pprof/heap?gc=1"
	for range 2 {
		if status, err = ask(ctx, http.MethodGet, heap); err != nil {
			return err
		}
		if status/100 != 2 {
			return fmt.Errorf("%s is answered with status %d", heap, status)
		}
	}
	return t.settleMemory(ctx)
}

// settleMemory waits until the memory of the first process shrinks no more, at
// most 10 s.
func (t *Target) settleMemory(ctx context.Context) error {
	const look, most = 500 * time.Millisecond, 20
	tick := time.NewTicker(look)
	defer tick.Stop()
	least, calm := int64(1<<62), 0
	for range most {
		rss, err := t.Processes[0].RSS()
		if err != nil {
			return err
		}
		if calm++; rss < least-least/200 {
			least, calm = rss, 0
		}
		if calm == 4 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ask sends a request without a body and returns the status of its answer.
func ask(ctx context.Context, method, url string) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body) // so that the server is not cut off
	return res.StatusCode, nil
}

// Settle waits until the processes have nothing to do, at most 15 s. It returns
// nil in either case unless one of them is gone.
func (t *Target) Settle(ctx context.Context) error {
	const look, most = 50 * time.Millisecond, 15 * time.Second
	tick := time.NewTicker(look)
	defer tick.Stop()
	end := time.Now().Add(most)
	var last time.Duration
	for calm := 0; calm < 4 && time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		used, err := t.CPU()
		if err != nil {
			return err
		}
		var sum time.Duration
		for _, d := range used {
			sum += d
		}
		if calm++; sum-last > 2*time.Millisecond {
			calm = 0
		}
		last = sum
	}
	return t.Check()
}

// Tokens returns tokens of users 0 to n-1, each good for hours. channels, where
// not nil, names what else a user is subscribed to.
func Tokens(n int, channels func(user int) []push.Channel) ([]string, error) {
	keys, err := token.ParseKeys(tokenKeys)
	if err != nil {
		return nil, err
	}
	minter, err := token.NewMinter(token.Config{Keys: keys}, time.Now)
	if err != nil {
		return nil, err
	}
	list := make([]string, n)
	for i := range list {
		grant := token.Grant{User: push.UserID(strconv.Itoa(i)), TTL: 6 * time.Hour}
		if channels != nil {
			grant.Channels = channels(i)
		}
		if list[i], _, err = minter.Mint(grant); err != nil {
			return nil, err
		}
	}
	return list, nil
}

const tokenKeys = keyID + ":HS256:" + Secret

// answers200 says whether a GET of url is answered 200.
func answers200(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		status, err := ask(ctx, http.MethodGet, url)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%s is answered with status %d", url, status)
		}
		return err
	}
}

// listens says whether somebody listens at addr.
func listens(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}
