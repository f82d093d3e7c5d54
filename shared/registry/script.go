package registry

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
)

//go:embed append.lua
var appendText string

// A script is a Lua script and what Redis calls it.
type script struct{ text, hash string }

// newAppendScript returns the append script with the bounds of cfg in it.
func newAppendScript(cfg Config) script {
	text := fmt.Sprintf("local most_entries, most_bytes, max_age, keep = %d, %d, %d, %d\n",
		cfg.MaxEntries, cfg.MaxBytes, cfg.MaxAge.Milliseconds(), cfg.Keep.Milliseconds()) + appendText
	return script{text, redis.NewScript(text).Hash()}
}

// loadScript gives the append script to every primary.
func (r *Registry) loadScript(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	load := func(ctx context.Context, c *redis.Client) error {
		return c.ScriptLoad(ctx, r.script.text).Err()
	}
	var err error
	if cluster, ok := r.rdb.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, load)
	} else {
		err = r.rdb.ScriptLoad(ctx, r.script.text).Err()
	}
	if err != nil {
		return fmt.Errorf("load the append script: %w", err)
	}
	return nil
}

// A scriptCall is a call of the append script for some items, with all it says:
// nothing of whoever made it is read or written once that has left. The fields
// after args are set by [scriptCalls.answer].
type scriptCall struct {
	floor push.Offset
	items int
	keys  []any
	args  []any

	reply []any // an answer for each item
	err   error // there are no answers, or other ones
}

// scriptCalls are calls that go in one pipeline. Several may be one command: a
// script that is called for one item spends more on being called than on the item.
type scriptCalls []scriptCommand

type scriptCommand struct {
	cmd   *redis.Cmd
	calls []*scriptCall
}

// send queues one command for calls, which are under the same floor.
func (s *scriptCalls) send(p redis.Pipeliner, hash string, calls ...*scriptCall) {
	items := 0
	for _, c := range calls {
		items += c.items
	}
	const fixed, each = 4, 5
	args := make([]any, 0, fixed+each*items)
	args = append(args, "EVALSHA", hash, 3*items)
	for _, c := range calls {
		args = append(args, c.keys...)
	}
	args = append(args, uint64(calls[0].floor))
	for _, c := range calls {
		args = append(args, c.args...)
	}
	cmd := redis.NewCmd(context.Background(), args...)
	_ = p.Process(context.Background(), cmd) // queues it; it has its own error
	*s = append(*s, scriptCommand{cmd, calls})
}

// answer gives each call what is its own of its command's answer.
func (s scriptCalls) answer() {
	for _, sent := range s {
		items := 0
		for _, c := range sent.calls {
			items += c.items
		}
		reply, err := sent.cmd.Slice()
		if err == nil && len(reply) != items {
			err = fmt.Errorf("%w: %d answers to %d items", errBadReply, len(reply), items)
		}
		for _, c := range sent.calls {
			if c.err = err; err == nil {
				c.reply, reply = reply[:c.items], reply[c.items:]
			}
		}
	}
}

// sendJoined queues calls, as many in one command as fit.
func (s *scriptCalls) sendJoined(p redis.Pipeliner, hash string, calls []*scriptCall) {
	for from := 0; from < len(calls); {
		to, items := from+1, calls[from].items
		for to < len(calls) && items+calls[to].items <= appendPerScript && calls[to].floor == calls[from].floor {
			items += calls[to].items
			to++
		}
		s.send(p, hash, calls[from:to]...)
		from = to
	}
}
