package node

import (
	"cmp"
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
	// lastOffsets asks the inbox for channels' last entries.
	lastOffsets *gatherer[push.Channel, push.Offset]
	// evictions tells whether Redis evicted anything lately.
	evictions *evictionWatch
	// settle is how old an entry of the inbox must be to count where the log
	// cannot be asked: its predecessors may still have been on their way into
	// the inbox when it was written.
	settle time.Duration
}

// A page is what a channel holds for clients after a position: unexpired, by
// rising offset, newest per collapse key.
type page struct {
	hub.Page
	term push.Term
	last push.Offset // the channel's newest offset in this term, as its log knows it; 0: not known
}

func lastOffset(entries []push.Entry) push.Offset {
	if len(entries) == 0 {
		return 0
	}
	return entries[len(entries)-1].Offset
}

// register makes sure that ch's route is written, and then reads after from.
// The page holds about maxBytes of data.
func (h *history) register(ctx context.Context, ch *hub.Channel, from push.Offset, maxBytes int) (page, error) {
	q := registry.LogQuery{Channel: ch.Name(), After: from, MaxBytes: maxBytes}
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
	return h.lastOffsets.of(ctx, ch.Name())
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
// between its entries can be missing from the second read of the log. Both reads
// of the log must be of one term: what a log lost is whole in the inbox only once
// the next term has begun.
//
// Unless Redis has just evicted it. Then an entry may be in neither, while its
// write to the inbox is under way: the page stops at what has settled.
func (h *history) complete(ctx context.Context, q registry.LogQuery, log registry.LogPage) (page, error) {
	p := page{hub.Page{Entries: log.Entries, More: log.More}, log.Term, log.Last}
	settled := ^push.Offset(0)
	if log.ReachesBack {
		h.metrics.reads.WithLabelValues("log").Inc()
	} else {
		h.metrics.reads.WithLabelValues("inbox").Inc()
		inbox, log, err := h.readBoth(ctx, q, log)
		if err != nil {
			return page{}, err
		}
		p = page{hub.Page{Entries: merge(inbox, log), Omitted: inbox.Omitted, More: inbox.More || log.More}, log.Term, log.Last}
		if settled, err = h.settled(ctx, log); err != nil {
			return page{}, err
		}
	}
	p.End = max(q.After, lastOffset(p.Entries))
	if !p.More && len(p.Omitted) > 0 {
		p.End = max(p.End, p.Omitted[len(p.Omitted)-1].Last)
	}
	p.stopAt(max(settled, q.After))
	if err := h.fill(ctx, &p.Page, q.MaxBytes); err != nil {
		return page{}, err
	}
	omit(&p.Page, h.reg.Now())
	return p, nil
}

// readBoth reads the inbox, and then the log once more, as often as it takes for
// that to be in the term of the read before, which was first.
func (h *history) readBoth(ctx context.Context, q registry.LogQuery, first registry.LogPage) (store.InboxPage, registry.LogPage, error) {
	for {
		inbox, err := h.store.ReadInbox(ctx, store.InboxQuery{
			Channel: q.Channel, After: q.After, Now: h.reg.Now(), MaxBytes: q.MaxBytes, TellOmitted: true})
		if err != nil {
			return store.InboxPage{}, registry.LogPage{}, fmt.Errorf("read inbox: %w", err)
		}
		log, err := h.reg.ReadLog(ctx, q)
		if err != nil || log.Term.Number == first.Term.Number {
			return inbox, log, err
		}
		first = log
	}
}

// believable reports whether a client may have been given offset from, of which
// p is what comes after: nobody was given more than the channel holds. What lies
// below the term's floor Redis may have lost.
func (h *history) believable(ctx context.Context, name push.Channel, from push.Offset, p page) (bool, error) {
	if from <= max(p.term.Floor, p.last, lastOffset(p.Entries)) {
		return true, nil
	}
	if p.last != 0 {
		return false, nil
	}
	last, err := h.lastOffsets.of(ctx, name)
	return from <= last, err
}

// settled returns the offset up to which a read that needed the inbox is sure
// to be whole; without evictions that is everything.
func (h *history) settled(ctx context.Context, log registry.LogPage) (push.Offset, error) {
	all := ^push.Offset(0)
	if log.ReachesBack {
		return all, nil
	}
	limit := push.OffsetAt(h.reg.Now().Add(-h.settle))
	if log.Uncovered <= limit {
		return all, nil
	}
	lately, err := h.evictions.lately(ctx)
	if err != nil || !lately {
		return all, err
	}
	h.metrics.reads.WithLabelValues("unsettled").Inc()
	return limit, nil
}

// stopAt ends the page at limit, if it reaches further.
func (p *page) stopAt(limit push.Offset) {
	if limit == ^push.Offset(0) {
		return
	}
	beyond := func(e push.Entry) bool { return e.Offset > limit }
	if at := slices.IndexFunc(p.Entries, beyond); at >= 0 {
		p.Entries = p.Entries[:at]
	}
	p.Omitted = slices.DeleteFunc(p.Omitted, func(o store.Omission) bool { return o.Last > limit })
	p.End, p.More, p.Unsettled = min(p.End, limit), true, true
}

// omit takes out of p what has expired at now, and all but the newest of each
// collapse key, and lists it as omitted.
func omit(p *hub.Page, now time.Time) {
	drop := superseded(p.Entries)
	kept := p.Entries[:0:0]
	for i, e := range p.Entries {
		if !drop[i] && !e.Message.Expired(now) {
			kept = append(kept, e)
			continue
		}
		p.Omitted = append(p.Omitted, store.Omission{First: e.Offset, Last: e.Offset, ExpiresAt: e.Message.ExpiresAt})
	}
	p.Entries = kept
	slices.SortFunc(p.Omitted, func(a, b store.Omission) int { return cmp.Compare(a.First, b.First) })
}

// readInbox returns the page after the given offset of what the inbox alone
// holds, as far as nothing can be missing from it.
func (h *history) readInbox(ctx context.Context, name push.Channel, after push.Offset) (page, error) {
	h.metrics.reads.WithLabelValues("inbox_alone").Inc()
	now := h.reg.Now()
	inbox, err := h.store.ReadInbox(ctx, store.InboxQuery{
		Channel: name, After: after, UpTo: push.OffsetAt(now.Add(-h.settle)), Now: now, MaxBytes: pageBytes, TellOmitted: true})
	if err != nil {
		return page{}, fmt.Errorf("read inbox: %w", err)
	}
	p := page{Page: hub.Page{
		Entries: inbox.Entries, Omitted: inbox.Omitted, End: max(after, lastOffset(inbox.Entries)), More: inbox.More}}
	omit(&p.Page, now)
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

// superseded tells which entries have a collapse key that occurs again later;
// nil if there is none.
func superseded(entries []push.Entry) map[int]bool {
	var drop map[int]bool
	var seen map[string]bool
	for i := len(entries) - 1; i >= 0; i-- {
		key := entries[i].Message.CollapseKey
		switch {
		case key == "":
		case seen[key]:
			if drop == nil {
				drop = make(map[int]bool)
			}
			drop[i] = true
		default:
			if seen == nil {
				seen = make(map[string]bool)
			}
			seen[key] = true
		}
	}
	return drop
}

// fillAtOnce is how many messages are loaded from the store in one go.
const fillAtOnce = 32

// fill loads the messages that the log only refers to. The log did not know
// their size, so the page may end sooner now: where it holds maxBytes of data.
func (h *history) fill(ctx context.Context, p *hub.Page, maxBytes int) error {
	bytes := 0
	kept := make([]push.Entry, 0, len(p.Entries))
	for run := range slices.Chunk(p.Entries, fillAtOnce) {
		run, err := h.load(ctx, run)
		if err != nil {
			return err
		}
		for _, e := range run {
			if len(e.Message.Data) == 0 {
				continue // its message is gone: it has expired
			}
			if bytes += len(e.Message.Data); bytes > maxBytes && len(kept) > 0 {
				p.Entries = kept
				p.End, p.More = lastOffset(kept), true
				p.Omitted = slices.DeleteFunc(p.Omitted, func(o store.Omission) bool { return o.Last > p.End })
				return nil
			}
			kept = append(kept, e)
		}
	}
	p.Entries = kept
	return nil
}

// load returns entries with the messages that they lack, as far as the store has
// them.
func (h *history) load(ctx context.Context, entries []push.Entry) ([]push.Entry, error) {
	var missing []push.MessageID
	for _, e := range entries {
		if len(e.Message.Data) == 0 {
			missing = append(missing, e.Message.ID)
		}
	}
	if len(missing) == 0 {
		return entries, nil
	}
	loaded, err := h.store.LoadMessages(ctx, missing)
	if err != nil {
		return nil, fmt.Errorf("load messages: %w", err)
	}
	entries = slices.Clone(entries)
	for i, e := range entries {
		if r, ok := loaded[e.Message.ID]; ok && len(e.Message.Data) == 0 {
			m := r.Message
			m.To = push.Recipients{}
			entries[i].Message = &m
		}
	}
	return entries, nil
}
