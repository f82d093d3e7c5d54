// Package handoff brings messages to Dispatch, by the way that DISPATCH_URL
// names:
//
//	http://HOST:PORT, https://…   a signed POST /v1/dispatch
//	lambda://FUNCTION             the same request as a synchronous invocation
//	sqs://QUEUE                   the request's body as an item of a standard queue
//
// A message is confirmed when Dispatch has answered that its inbox is written,
// or when the queue holds it.
// Whatever is not confirmed may have been handed off or not; handing it off
// again, with again set, changes nothing where it was.
package handoff

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/batcher"
	"pushcluster/shared/push"
	"pushcluster/shared/signature"
)

// Why a message is not confirmed, where it was not Dispatch that said why: then
// the error is its *push.Problem.
var (
	ErrUnreachable = errors.New("dispatch cannot be reached")
	ErrTimeout     = errors.New("dispatch did not answer in time")
	ErrAnswer      = errors.New("dispatch gave an answer that cannot be understood")
	ErrNotTried    = errors.New("not tried: an earlier part failed")
)

// Config tunes a [Client]. Its zero value is good.
type Config struct {
	Deadline time.Duration // for one HandOff as a whole; 0 means 5 s
	MaxBody  int           // bytes of one request's body, unless a single message is larger; 0 means what the way takes, at most 4 MiB
}

// A Client hands messages to Dispatch. It may be used by several goroutines.
type Client struct {
	cfg   Config
	way   carrier
	alone *batcher.Batcher[offer, error] // of calls with one message; nil where each goes by itself
}

// sharing lets calls with one small message share requests: where two are under
// way, others gather, but only for as long as a good answer takes, so that a
// request which hangs holds up those in it and nobody else.
var sharing = batcher.Config{
	Lanes:      2,
	Patience:   5 * time.Millisecond,
	MaxLanes:   64,
	MaxItems:   128,
	MaxWaiting: 100_000,
}

// An offer is a message that waits for a request.
type offer struct {
	message push.Message
	came    time.Time
}

// stale is how long a message may wait for its request and still be new: what has
// waited for longer may have been handed off again, by way of the outbox, when it
// arrives.
const stale = time.Second

// What a message that shares a request may have: what is done for one is waited
// for by all.
const (
	smallPlaces = 16      // channels
	smallData   = 4 << 10 // bytes
)

func small(m *push.Message) bool {
	return m.To.AtMost() <= smallPlaces && len(m.Data) <= smallData
}

// apart is how many parts of a request that was refused as a whole are sent at
// once.
const apart = 8

// A carrier is one way to Dispatch.
type carrier interface {
	// most returns the bytes of the largest body that it carries.
	most() int
	// carry brings body, which holds messages, and sets errs to what came of
	// each. An error it returns concerns all of them.
	carry(ctx context.Context, body []byte, messages []push.Message, errs []error) error
	ordered() bool // see Client.Ordered
	close()        // closes idle connections
}

// New returns a client for rawURL. Over http it signs its requests with signer;
// on AWS, IAM stands in for that, and the AWS SDK finds region and credentials
// in the process' environment. New asks nobody.
func New(rawURL string, cfg Config, signer *signature.Signer) (*Client, error) {
	way, err := newCarrier(rawURL, signer)
	if err != nil {
		return nil, err
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = 5 * time.Second
	}
	if cfg.MaxBody == 0 || cfg.MaxBody > way.most() {
		cfg.MaxBody = way.most()
	}
	c := &Client{cfg: cfg, way: way}
	if way.ordered() {
		c.alone = batcher.New(sharing, c.together)
	}
	return c, nil
}

// newCarrier returns the way that rawURL names.
func newCarrier(rawURL string, signer *signature.Signer) (carrier, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("the URL of Dispatch cannot be parsed; it is http://HOST:PORT, lambda://FUNCTION or sqs://QUEUE") // the error would tell a password
	}
	plain := u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
	bare := plain && u.Path == "" && u.Port() == ""
	switch u.Scheme {
	case "http", "https":
		if !plain {
			return nil, errors.New("the URL of Dispatch must be http://HOST:PORT, without user, query or fragment")
		}
		return newHTTP(strings.TrimSuffix(u.String(), "/")+"/v1/dispatch", signer), nil
	case "lambda":
		if !bare {
			return nil, errors.New("the URL of Dispatch must be lambda://FUNCTION")
		}
		invoker, err := NewInvoker()
		if err != nil {
			return nil, err
		}
		return newLambda(invoker, u.Host), nil
	case "sqs":
		if !bare {
			return nil, checkQueue("")
		}
		if err := checkQueue(u.Host); err != nil {
			return nil, err
		}
		return newSQS(u.Host)
	default:
		return nil, fmt.Errorf("hand-off by %q is not known; use http://HOST:PORT, lambda://FUNCTION or sqs://QUEUE", u.Scheme)
	}
}

// HandOff hands messages to Dispatch in their order and returns as many errors:
// nil for each message that is confirmed. again says that any of them may have
// been handed off before. What does not fit into one request goes in several,
// one after the other; when one of them fails as a whole, those after it are
// not tried, so that they do not overtake.
//
// Single messages that are new and small share requests with those of other
// calls, where Dispatch is asked directly.
func (c *Client) HandOff(ctx context.Context, messages []push.Message, again bool) []error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Deadline)
	defer cancel()
	if len(messages) == 1 && !again && c.alone != nil && small(&messages[0]) {
		errs, err := c.alone.Do(ctx, []offer{{messages[0], time.Now()}})
		if err != nil {
			return []error{transportError(ctx, err)}
		}
		return errs
	}
	errs, _ := c.send(ctx, messages, again)
	return errs
}

// together hands off messages of as many calls. Its errors are the messages'.
func (c *Client) together(ctx context.Context, offers []offer) ([]error, error) {
	var messages [2][]push.Message // new ones, and stale ones
	var places [2][]int            // of theirs, in offers
	for i, o := range offers {
		kind := 0
		if time.Since(o.came) > stale {
			kind = 1
		}
		messages[kind] = append(messages[kind], o.message)
		places[kind] = append(places[kind], i)
	}
	errs := make([]error, len(offers))
	for kind := range messages {
		if len(messages[kind]) > 0 {
			for n, err := range c.share(ctx, messages[kind], kind == 1) {
				errs[places[kind][n]] = err
			}
		}
	}
	return errs, nil
}

// share hands messages off in one request. Where that is refused as a whole, it
// is taken apart.
func (c *Client) share(ctx context.Context, messages []push.Message, again bool) []error {
	errs, refusal := c.send(ctx, messages, again)
	if len(messages) == 1 || !mayBeOne(refusal) {
		return errs
	}
	var g errgroup.Group
	g.SetLimit(apart)
	for i, err := range errs {
		if err == nil {
			continue
		}
		g.Go(func() error {
			one, _ := c.send(ctx, messages[i:i+1], true)
			errs[i] = one[0]
			return nil
		})
	}
	_ = g.Wait() // errs has them
	return errs
}

// mayBeOne reports whether the refusal of a request may be one message's fault:
// then the others are not to suffer.
func mayBeOne(refusal error) bool {
	if p, ok := errors.AsType[*push.Problem](refusal); ok {
		return p.Code != push.CodeUnavailable
	}
	return errors.Is(refusal, ErrAnswer) || errors.Is(refusal, ErrFunction)
}

// send is HandOff for messages that share no request with others. The refusal is
// the error of a request as a whole, behind which no more was tried.
func (c *Client) send(ctx context.Context, messages []push.Message, again bool) (errs []error, refusal error) {
	errs = make([]error, len(messages))
	for from := 0; from < len(messages); {
		body, n, err := encode(messages[from:], again, c.cfg.MaxBody)
		if err != nil {
			errs[from] = err // one that cannot be encoded does not hold up the rest
			from++
			continue
		}
		if err := c.way.carry(ctx, body, messages[from:from+n], errs[from:from+n]); err != nil {
			for i := range errs[from:] {
				errs[from+i] = ErrNotTried
			}
			for i := range n {
				errs[from+i] = err
			}
			return errs, err
		}
		from += n
	}
	return errs, nil
}

// Ordered reports whether Dispatch gets what one call handed off, and was
// confirmed, before what a later call hands off. A queue does not promise that.
func (c *Client) Ordered() bool { return c.way.ordered() }

// Close closes idle connections. Calls under way go on.
func (c *Client) Close() { c.way.close() }
