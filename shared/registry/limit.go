package registry

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

//go:embed limit.lua
var limitText string

var limitScript = redis.NewScript(limitText)

// A LimiterConfig tunes a [Limiter]. Zero values stand for the defaults.
type LimiterConfig struct {
	Timeout     time.Duration // of one judgement, for which a request waits; 250 ms
	Connections int           // to one Redis at most; go-redis' own number
}

// A Rate is a limit of requests: Count of them in each Per, of which up to Burst
// may come at once.
type Rate struct {
	Count int
	Per   time.Duration
	Burst int
}

// Interval returns how far apart requests at this rate are, in whole
// microseconds and not below one.
func (r Rate) Interval() time.Duration {
	return max(time.Microsecond, (r.Per / time.Duration(max(1, r.Count))).Round(time.Microsecond))
}

// Room returns how far ahead of time a burst may run.
func (r Rate) Room() time.Duration { return r.Interval() * time.Duration(max(1, r.Burst)) }

// A Verdict says whether one request may pass.
type Verdict struct {
	Passes bool
	// Left is where each limit stands now, in their order.
	Left []Left
}

// Left is what is left of one limit.
type Left struct {
	Requests int           // that may come at once
	Full     time.Duration // until it is as if no request had come
	Next     time.Duration // until one more may pass; 0: at once
}

// A Limiter judges requests in Redis, by Redis' clock: all processes together
// keep to one limit. It holds one key for each limit that was used lately, and
// nothing that would be missed. It may be used by several goroutines.
type Limiter struct {
	rdb     redis.UniversalClient
	timeout time.Duration
}

// OpenLimiter returns a limiter on the Redis that addr names, as [Open] reads
// it. It does no I/O.
func OpenLimiter(addr string, cfg LimiterConfig) (*Limiter, error) {
	opts, err := parseURL(addr)
	if err != nil {
		return nil, err
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 250 * time.Millisecond
	}
	opts.DialTimeout = cfg.Timeout
	opts.ReadTimeout = longest // each call's context ends sooner
	opts.WriteTimeout = longest
	opts.PoolTimeout = cfg.Timeout
	opts.ContextTimeoutEnabled = true
	opts.MaxRetries = -1 // a request that was counted and not answered must not count twice
	opts.DialerRetries = 1
	opts.PoolSize = cfg.Connections
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &Limiter{rdb: redis.NewUniversalClient(opts), timeout: cfg.Timeout}, nil
}

// Close closes the connections to Redis. Calls made afterwards fail.
func (l *Limiter) Close() error {
	if err := l.rdb.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close redis: %w", err)
	}
	return nil
}

// Take judges one request of subject against rates, in one round trip: it counts
// against all of them, or, where one of them refuses it, against none. A subject
// holds no braces. Take waits at most LimiterConfig.Timeout; an error means that nothing
// is known.
func (l *Limiter) Take(ctx context.Context, subject string, rates []Rate) (Verdict, error) {
	if len(rates) == 0 {
		return Verdict{Passes: true}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	keys := make([]string, len(rates))
	args := make([]any, 0, 2*len(rates))
	for i, r := range rates {
		keys[i] = limitKey(subject, i)
		args = append(args, r.Interval().Microseconds(), r.Room().Microseconds())
	}
	reply, err := limitScript.Run(ctx, l.rdb, keys, args...).StringSlice()
	if err != nil {
		return Verdict{}, fmt.Errorf("judge the limit of %s: %w", subject, err)
	}
	v, err := decodeVerdict(reply, len(rates))
	if err != nil {
		return Verdict{}, fmt.Errorf("judge the limit of %s: %w", subject, err)
	}
	return v, nil
}

func limitKey(subject string, n int) string {
	return "push:limit:{" + subject + "}:" + strconv.Itoa(n)
}

// decodeVerdict reads the script's answer about so many limits.
func decodeVerdict(reply []string, limits int) (Verdict, error) {
	if len(reply) != 1+3*limits {
		return Verdict{}, fmt.Errorf("%w: %d values about %d limits", errBadReply, len(reply), limits)
	}
	v := Verdict{Passes: reply[0] == "1", Left: make([]Left, limits)}
	for i := range limits {
		var numbers [3]int64
		for j := range numbers {
			n, err := strconv.ParseInt(reply[1+3*i+j], 10, 64)
			if err != nil || n < 0 || n > int64(1<<53) {
				return Verdict{}, fmt.Errorf("%w: %.40q is no number of a limit", errBadReply, reply[1+3*i+j])
			}
			numbers[j] = n
		}
		v.Left[i] = Left{
			Requests: int(numbers[0]),
			Full:     time.Duration(numbers[1]) * time.Microsecond,
			Next:     time.Duration(numbers[2]) * time.Microsecond,
		}
	}
	return v, nil
}
