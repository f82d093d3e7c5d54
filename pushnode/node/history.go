package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/store"
)

// pageBytes is how much data one page of recovery holds, about.
const pageBytes = 256 << 10

// A history reads what a channel holds, from the log where that suffices, else
// from log and inbox as one.
type history struct {
	node    push.NodeID
	reg     *registry.Registry
	store   store.Store
	metrics *metrics
	// settle is how old an entry of the inbox must be to count where the log
	// cannot be asked: its predecessors may still have been on their way into
	// the inbox when it was written.
	settle time.Duration
}

// A page is a run of a channel's entries after a position: unexpired, by rising
// offset, newest per collapse key. Nothing lies between that it lacks.
type page struct {
	entries []push.Entry
	end     push.Offset // the page is whole up to here
	more    bool        // there may be entries beyond end
	term    push.Term
}

func lastOffset(entries []push.Entry) push.Offset {
	if len(entries) == 0 {
		return 0
	}
	return entries[len(entries)-1].Offset
}

// register makes sure that ch's route is written, and then reads after from.
func (h *history) register(ctx context.Context, ch *hub.Channel, from push.Offset) (page, error) {
	q := registry.LogQuery{Channel: ch.Name(), After: from, MaxBytes: pageBytes}
	var log registry.LogPage
	read := false
	err := ch.Register(ctx, func() (err error) {
		log, err = h.reg.RegisterAndRead(ctx, h.node, ch.Registration(), q)
		read = err == nil
		return err
	})
	if err == nil && !read {
		log, err = h.reg.ReadLog(ctx, q)
	}
	if err != nil {
		return page{}, err
	}
	return h.complete(ctx, q, log)
}

// registerLast makes sure that ch's route is written, and then returns the
// offset of the last entry that the channel holds, 0 if none.
func (h *history) registerLast(ctx context.Context, ch *hub.Channel) (push.Offset, error) {
	var last push.Offset
	read := false
	err := ch.Register(ctx, func() (err error) {
		last, err = h.reg.RegisterAndLast(ctx, h.node, ch.Registration(), ch.Name())
		read = err == nil
		return err
	})
	if err == nil && !read {
		last, err = h.reg.LastInLog(ctx, ch.Name())
	}
	if err != nil || last != 0 {
		return last, err
	}
	return h.store.LastOffset(ctx, ch.Name())
}

// read returns the page after the given offset.
func (h *history) read(ctx context.Context, name push.Channel, after push.Offset) (page, error) {
	q := registry.LogQuery{Channel: name, After: after, MaxBytes: pageBytes}
	log, err := h.reg.ReadLog(ctx, q)
	if err != nil {
		return page{}, err
	}
	return h.complete(ctx, q, log)
}

// complete makes a page of what the log returned. Where the log alone does not
// prove that it is whole, the inbox is read, and then the log once more: what
// the inbox holds of this term was appended before, so nothing that belongs
// between its entries can be missing from the second read of the log.
func (h *history) complete(ctx context.Context, q registry.LogQuery, log registry.LogPage) (page, error) {
	p := page{entries: log.Entries, end: max(q.After, lastOffset(log.Entries)), more: log.More, term: log.Term}
	if log.ReachesBack {
		h.metrics.reads.WithLabelValues("log").Inc()
	} else {
		h.metrics.reads.WithLabelValues("inbox").Inc()
		inbox, err := h.store.ReadInbox(ctx, store.InboxQuery{Channel: q.Channel, After: q.After, Now: h.reg.Now(), MaxBytes: pageBytes})
		if err != nil {
			return page{}, fmt.Errorf("read inbox: %w", err)
		}
		if log, err = h.reg.ReadLog(ctx, q); err != nil {
			return page{}, err
		}
		p = page{entries: merge(inbox, log), more: inbox.More || log.More, term: log.Term}
		p.end = max(q.After, lastOffset(p.entries))
	}
	if err := h.fill(ctx, &p); err != nil {
		return page{}, err
	}
	now := h.reg.Now()
	p.entries = slices.DeleteFunc(newestPerKey(p.entries), func(e push.Entry) bool { return e.Message.Expired(now) })
	return p, nil
}

// readInbox returns the page after the given offset of what the inbox alone
// holds, as far as nothing can be missing from it.
func (h *history) readInbox(ctx context.Context, name push.Channel, after push.Offset) (page, error) {
	h.metrics.reads.WithLabelValues("inbox_alone").Inc()
	now := h.reg.Now()
	inbox, err := h.store.ReadInbox(ctx, store.InboxQuery{
		Channel: name, After: after, UpTo: push.OffsetAt(now.Add(-h.settle)), Now: now, MaxBytes: pageBytes})
	if err != nil {
		return page{}, fmt.Errorf("read inbox: %w", err)
	}
	p := page{entries: inbox.Entries, end: max(after, lastOffset(inbox.Entries)), more: inbox.More}
	p.entries = newestPerKey(p.entries)
	return p, nil
}

// merge joins two reads after the same offset into one run. Where both hold a
// message, the inbox decides on its place. Beyond the end of a read that was
// cut short nothing counts.
func merge(inbox store.InboxPage, log registry.LogPage) []push.Entry {
	end := ^push.Offset(0)
	if inbox.More {
		end = lastOffset(inbox.Entries)
	}
	if log.More {
		end = min(end, lastOffset(log.Entries))
	}
	known := make(map[push.MessageID]bool, len(inbox.Entries))
	for _, e := range inbox.Entries {
		known[e.Message.ID] = true
	}
	merged := slices.Clone(inbox.Entries)
	for _, e := range log.Entries {
		if !known[e.Message.ID] {
			merged = append(merged, e)
		}
	}
	slices.SortFunc(merged, func(a, b push.Entry) int {
		if a.Offset < b.Offset {
			return -1
		}
		return 1
	})
	return slices.DeleteFunc(merged, func(e push.Entry) bool { return e.Offset > end })
}

// newestPerKey leaves out every entry whose collapse key occurs again later.
func newestPerKey(entries []push.Entry) []push.Entry {
	var seen map[string]bool
	kept := len(entries)
	for i := len(entries) - 1; i >= 0; i-- {
		if key := entries[i].Message.CollapseKey; key != "" {
			if seen[key] {
				continue
			}
			if seen == nil {
				seen = make(map[string]bool)
			}
			seen[key] = true
		}
		kept--
		entries[kept] = entries[i]
	}
	return entries[kept:]
}

// fill loads the messages that the log only refers to.
func (h *history) fill(ctx context.Context, p *page) error {
	var missing []push.MessageID
	for _, e := range p.entries {
		if len(e.Message.Data) == 0 {
			missing = append(missing, e.Message.ID)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	loaded, err := h.store.LoadMessages(ctx, missing)
	if err != nil {
		return fmt.Errorf("load messages: %w", err)
	}
	for i, e := range p.entries {
		if r, ok := loaded[e.Message.ID]; ok && len(e.Message.Data) == 0 {
			m := r.Message
			m.To = push.Recipients{}
			p.entries[i].Message = &m
		}
	}
	p.entries = slices.DeleteFunc(p.entries, func(e push.Entry) bool { return len(e.Message.Data) == 0 })
	return nil
}
