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

// logBurst is how many times as much as it should a log holds at most of what is
// younger than Config.Young: as much as one request to Dispatch brings, or one look
// at the outbox.
const logBurst = 8

// A script is a Lua script and what Redis calls it.
type script struct{ text, hash string }

// newAppendScript returns the append script with the bounds of cfg in it.
func newAppendScript(cfg Config) script {
	text := fmt.Sprintf("local most_entries, most_bytes, burst, young, max_age, keep = %d, %d, %d, %d, %d, %d\n",
		cfg.MaxEntries, cfg.MaxBytes, logBurst, cfg.Young.Milliseconds(), cfg.MaxAge.Milliseconds(), cfg.Keep.Milliseconds()) + appendText
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
	floor    push.Offset
	channels []push.Channel // by item
	args     []any          // for each item what [itemArgs] says

	reply  []any         // for each item what decodeAppended reads
	routes []*routesRead // by item, those of one channel the same
	err    error         // there are no answers, or other ones
}

// What the append script takes and answers for each item.
const (
	itemKeys    = 2 // its log and what is seen in it
	itemArgs    = 2 // the message, and what is special about it
	itemAnswers = 3 // what was done, the offset, the one before it
)

// scriptCalls are calls that go in one pipeline. Several may be one command: a
// script that is called for one item spends more on being called than on the item.
// The routes of every channel follow once, behind all appends: whoever registers
// after they were read finds in the log what was appended before.
type scriptCalls struct {
	hash    string
	cluster bool // what is of several channels may be in several slots
	sent    []scriptCommand
	routes  map[push.Channel]*routesRead
}

type scriptCommand struct {
	cmd   *redis.Cmd
	calls []*scriptCall
}

// A routesRead is one question for a channel's routes and its answer.
type routesRead struct {
	cmd    *redis.MapStringStringCmd
	routes []Route
	err    error
}

// send queues one command for calls, which are under the same floor.
func (s *scriptCalls) send(p redis.Pipeliner, calls ...*scriptCall) {
	items := 0
	for _, c := range calls {
		items += len(c.channels)
	}
	const fixed = 5
	args := make([]any, 0, fixed+(itemKeys+itemArgs)*items)
	args = append(args, "EVALSHA", s.hash, nil)
	for _, c := range calls {
		for _, channel := range c.channels {
			args = append(args, logKey(channel), seenKey(channel))
		}
	}
	if s.cluster {
		// A slot that moves: the command goes where all its keys are, and so before
		// the routes are read there. All are of one channel.
		args = append(args, routesKey(calls[0].channels[0]))
	}
	args[2] = len(args) - 3
	args = append(args, uint64(calls[0].floor))
	for _, c := range calls {
		args = append(args, c.args...)
	}
	cmd := redis.NewCmd(context.Background(), args...)
	_ = p.Process(context.Background(), cmd) // queues it; it has its own error
	s.sent = append(s.sent, scriptCommand{cmd, calls})
}

// sendJoined queues calls, as many in one command as fit.
func (s *scriptCalls) sendJoined(p redis.Pipeliner, calls []*scriptCall) {
	for from := 0; from < len(calls); {
		to, items := from+1, len(calls[from].channels)
		for to < len(calls) && items+len(calls[to].channels) <= appendPerScript && calls[to].floor == calls[from].floor {
			items += len(calls[to].channels)
			to++
		}
		s.send(p, calls[from:to]...)
		from = to
	}
}

// readRoutes queues the questions for the routes of all that was sent.
func (s *scriptCalls) readRoutes(p redis.Pipeliner) {
	s.routes = make(map[push.Channel]*routesRead)
	for _, sent := range s.sent {
		for _, call := range sent.calls {
			call.routes = make([]*routesRead, len(call.channels))
			for i, c := range call.channels {
				read := s.routes[c]
				if read == nil {
					read = &routesRead{cmd: p.HGetAll(context.Background(), routesKey(c))}
					s.routes[c] = read
				}
				call.routes[i] = read
			}
		}
	}
}

// answer gives each call what is its own of its command's answer, and the routes.
func (s *scriptCalls) answer() {
	for _, sent := range s.sent {
		items := 0
		for _, c := range sent.calls {
			items += len(c.channels)
		}
		reply, err := sent.cmd.Slice()
		if err == nil && len(reply) != itemAnswers*items {
			err = fmt.Errorf("%w: %d answers to %d items", errBadReply, len(reply), items)
		}
		for _, c := range sent.calls {
			if c.err = err; err == nil {
				n := itemAnswers * len(c.channels)
				c.reply, reply = reply[:n], reply[n:]
			}
		}
	}
	for _, read := range s.routes {
		found, err := read.cmd.Result()
		if read.err = err; err == nil {
			read.routes = decodeRoutes(found)
		}
	}
}

// item returns the answer for the i-th item of the call.
func (c *scriptCall) item(i int) (AppendedItem, error) {
	if c.err != nil {
		return AppendedItem{}, c.err
	}
	a, err := decodeAppended(c.reply[itemAnswers*i : itemAnswers*(i+1)])
	if err != nil {
		return AppendedItem{}, err
	}
	if read := c.routes[i]; !a.Ask {
		a.Routes, err = read.routes, read.err
	}
	if err != nil {
		return AppendedItem{}, fmt.Errorf("read the routes: %w", err)
	}
	return a, nil
}
