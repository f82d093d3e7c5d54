package collectfn

import (
	"context"
	"sync"
	"time"

	"pushcluster/shared/push"
)

// lookTime bounds a look for a backlog.
const lookTime = 2 * time.Second

// A look asks whether anything waits in the outbox, once for all who want to know
// at the same moment.
type look struct {
	mu      sync.Mutex // guards what follows
	next    *glance    // not begun: who comes now shares it
	running bool       // a goroutine takes glances
}

// A glance is one answer. It is taken after everybody who shares it asked, so
// that it tells of all that was in the outbox by then.
type glance struct {
	done chan struct{} // closed when the others are set
	any  bool
	err  error
}

// join returns a glance that ask answers, with a deadline. Who calls it waits
// for the glance, and with that for the goroutine that takes it.
func (l *look) join(ask func(context.Context) (bool, error)) *glance {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = &glance{done: make(chan struct{})}
	}
	if !l.running {
		l.running = true
		go l.run(ask)
	}
	return l.next
}

// run takes glances until nobody wants one.
func (l *look) run(ask func(context.Context) (bool, error)) {
	for {
		l.mu.Lock()
		g := l.next
		l.next = nil
		l.running = g != nil
		l.mu.Unlock()
		if g == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), lookTime)
		g.any, g.err = ask(ctx)
		cancel()
		close(g.done)
	}
}

// lookForBacklog begins to look whether anything waits in the outbox that some
// of drafts would overtake. It returns nil where there is no such thing: what is
// scheduled has no order, and a queue keeps none.
func (h *Handler) lookForBacklog(drafts []*draft) *glance {
	if !h.handoff.Ordered() {
		return nil
	}
	for _, d := range drafts {
		if d.DeliverAt.IsZero() {
			return h.look.join(h.store.AnyBacklog)
		}
	}
	return nil
}

// A backlog is the channels that messages in the outbox are for.
type backlog struct {
	channels map[push.Channel]bool
	unknown  bool // it could not be told which
}

// channelsWithBacklog returns those of list's channels that have a backlog, nil
// if none has. Mostly the glance knows that there is none at all.
func (h *Handler) channelsWithBacklog(ctx context.Context, list []pending, g *glance) *backlog {
	if g == nil {
		return nil
	}
	<-g.done
	h.backlog.Note(h.log, g.err)
	switch {
	case g.err != nil:
		return &backlog{unknown: true}
	case !g.any:
		return nil
	}
	var all []push.Channel
	seen := make(map[push.Channel]bool)
	for _, p := range list {
		if !p.DeliverAt.IsZero() {
			continue
		}
		for _, c := range p.To.List() {
			if !seen[c] {
				seen[c] = true
				all = append(all, c)
			}
		}
	}
	found, err := h.store.Backlog(ctx, all)
	h.backlog.Note(h.log, err)
	if err != nil {
		return &backlog{unknown: true}
	}
	return &backlog{channels: found}
}

// holds says why m must not be handed off, "" if it may. Then m is part of the
// backlog itself.
func (b *backlog) holds(m *push.Message) (reason string) {
	switch {
	case b == nil:
		return ""
	case b.unknown:
		return reasonUnknown
	}
	channels := m.To.List()
	for _, c := range channels {
		if b.channels[c] {
			reason = reasonBehind
		}
	}
	if reason != "" {
		for _, c := range channels {
			b.channels[c] = true
		}
	}
	return reason
}
