package node

import (
	"context"
	"time"
)

// commandTurn is for how long commands that begin share a context, at most.
const commandTurn = 100 * time.Millisecond

// A commandTime is the time that commands have which begin before until.
type commandTime struct {
	ctx   context.Context // ends by itself
	end   context.CancelFunc
	until time.Time
}

// commandContext returns the context of a command that begins now: it ends after
// CommandTimeout, up to a sixteenth of that earlier, and with the node. Commands
// share theirs, because a timer and a context for each cost more than what many
// commands do.
func (n *Node) commandContext() context.Context {
	now := time.Now()
	if t := n.commands.Load(); t != nil && now.Before(t.until) {
		return t.ctx
	}
	t := &commandTime{until: now.Add(min(commandTurn, n.cfg.CommandTimeout/16))}
	t.ctx, t.end = context.WithDeadline(n.bg, now.Add(n.cfg.CommandTimeout))
	n.commands.Store(t) // of two at once either does
	return t.ctx
}
