package dispatchfn

import (
	"context"
	"maps"
	"slices"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

const (
	// loadFirst is how many messages a look loads before it knows how large they
	// are, loadMost how many it loads with one question at most.
	loadFirst = 16
	loadMost  = 32
)

// A loading is what a look at the outbox knows of messages.
type loading struct {
	records    map[push.MessageID]store.Record
	unreadable map[push.MessageID]error
	asked      map[push.MessageID]bool // those that were looked for
	bytes      int                     // of records, about
}

// loadSome loads the messages of entries, of both kinds in turn and of each in
// its order, up to Config.OutboxBytes: what a look claims may be more than there
// is memory for, or than the store hands out in the time of a call.
func (h *Handler) loadSome(ctx context.Context, entries []store.OutboxEntry, began time.Time) (*loading, error) {
	l := &loading{records: make(map[push.MessageID]store.Record, len(entries)),
		unreadable: make(map[push.MessageID]error), asked: make(map[push.MessageID]bool, len(entries))}
	rest := inTurn(entries)
	for n := loadFirst; len(rest) > 0 && l.bytes < h.cfg.OutboxBytes; {
		part := rest[:min(n, len(rest))]
		records, unreadable, err := h.load(ctx, part)
		switch {
		case err != nil && len(l.asked) > 0:
			return l, nil // what there is may go out
		case err != nil:
			return nil, err
		}
		maps.Copy(l.records, records)
		maps.Copy(l.unreadable, unreadable)
		for _, e := range part {
			l.asked[e.Message] = true
		}
		for _, r := range records {
			l.bytes += sizeOf(&r.Message)
		}
		rest = rest[len(part):]
		if time.Since(began) > h.cfg.OutboxClaim/4 {
			break
		}
		average := l.bytes/len(l.asked) + 1
		n = min(max((h.cfg.OutboxBytes-l.bytes)/average, 1), loadMost)
	}
	return l, nil
}

// inTurn returns entries, ordered ones and others in turn, so that neither wait
// for all of the others, and of the ordered ones small ones first.
func inTurn(entries []store.OutboxEntry) []store.OutboxEntry {
	ordered := 0 // which come first
	for ordered < len(entries) && entries[ordered].Sequence > 0 {
		ordered++
	}
	entries = slices.Concat(smallFirst(entries[:ordered]), entries[ordered:])
	list := make([]store.OutboxEntry, 0, len(entries))
	for i := range max(ordered, len(entries)-ordered) {
		if i < ordered {
			list = append(list, entries[i])
		}
		if ordered+i < len(entries) {
			list = append(list, entries[ordered+i])
		}
	}
	return list
}

// smallFirst returns ordered entries with small ones, those that wait for no wide
// one, before all others. What shares a channel keeps its order.
func smallFirst(ordered []store.OutboxEntry) []store.OutboxEntry {
	var first, rest []store.OutboxEntry
	behind := make(channelSet) // channels of rest
	for _, e := range ordered {
		if len(e.Channels) > smallPlaces || behind.hasAny(e.Channels) {
			rest = append(rest, e)
			behind.add(e.Channels)
		} else {
			first = append(first, e)
		}
	}
	return slices.Concat(first, rest)
}

// sizeOf is about how many bytes of memory m takes.
func sizeOf(m *push.Message) int {
	const header = 16 // of a string
	size := len(m.Data)
	for _, u := range m.To.Users {
		size += len(u) + header
	}
	for _, c := range m.To.Channels {
		size += len(c) + header
	}
	return size
}

// load returns the records of entries, as [store.LoadReadable] does.
func (h *Handler) load(ctx context.Context, entries []store.OutboxEntry) (map[push.MessageID]store.Record, map[push.MessageID]error, error) {
	ids := make([]push.MessageID, len(entries))
	for i := range entries {
		ids[i] = entries[i].Message
	}
	return store.LoadReadable(ctx, ids, h.store.LoadMessages)
}
