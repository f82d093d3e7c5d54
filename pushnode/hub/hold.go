package hub

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A hold keeps entries by rising offset while something is read.
type hold struct {
	entries   []push.Entry
	bytes     int         // of data in entries
	forgotten push.Offset // the largest offset that was dropped again
}

// put keeps e and returns what it dropped to stay within the bounds: the
// entries of the smallest offsets, e itself possibly among them.
func (h *hold) put(e push.Entry, maxEntries, maxBytes int) (dropped []push.Entry) {
	at, found := slices.BinarySearchFunc(h.entries, e.Offset, byOffset)
	if found {
		return nil
	}
	e.Message = detached(e.Message)
	h.entries = slices.Insert(h.entries, at, e)
	h.bytes += len(e.Message.Data)
	n := 0
	for len(h.entries)-n > maxEntries || h.bytes > maxBytes {
		h.bytes -= len(h.entries[n].Message.Data)
		h.forgotten = max(h.forgotten, h.entries[n].Offset)
		n++
	}
	if n == 0 {
		return nil
	}
	dropped = slices.Clone(h.entries[:n])
	h.entries = slices.Delete(h.entries, 0, n)
	return dropped
}

// detached returns a copy of m that keeps nothing else in memory: what it came
// with may be much larger, and the bounds of the hold count only its data.
func detached(m *push.Message) *push.Message {
	d := *m
	d.ID = push.MessageID(strings.Clone(string(m.ID)))
	d.Event, d.CollapseKey, d.Trace = strings.Clone(m.Event), strings.Clone(m.CollapseKey), strings.Clone(m.Trace)
	d.Data = bytes.Clone(m.Data)
	return &d
}

// largest returns the largest offset that is or was held, 0 if none.
func (h *hold) largest() push.Offset {
	if n := len(h.entries); n > 0 {
		return max(h.forgotten, h.entries[n-1].Offset)
	}
	return h.forgotten
}

// merge returns p, which a read from after returned, with what is held in its
// range and the read lacks: Redis may have lost it before the inbox had it. What
// the read left out on purpose stays out. What of it has expired or was superseded
// is omitted: the client is not given it, and its position passes it.
func (h *hold) merge(after push.Offset, p Page, now time.Time) Page {
	entries, omitted := p.Entries, p.Omitted
	for _, e := range h.entries {
		if e.Offset <= after || e.Offset > p.End || p.tells(e.Offset) {
			continue
		}
		at, found := slices.BinarySearchFunc(entries, e.Offset, byOffset)
		if found || slices.ContainsFunc(entries, func(m push.Entry) bool { return m.Message.ID == e.Message.ID }) {
			continue
		}
		if e.Message.Expired(now) || p.supersedes(e) {
			o := store.Omission{First: e.Offset, Last: e.Offset, ExpiresAt: e.Message.ExpiresAt}
			at, _ := slices.BinarySearchFunc(omitted, o.First, byFirst)
			omitted = slices.Insert(slices.Clip(omitted), at, o)
			continue
		}
		entries = slices.Insert(slices.Clip(entries), at, e)
	}
	p.Entries, p.Omitted = entries, omitted
	return p
}

func byOffset(e push.Entry, o push.Offset) int { return cmp.Compare(e.Offset, o) }

func byFirst(o store.Omission, first push.Offset) int { return cmp.Compare(o.First, first) }

// tells reports whether the page says that it left out what is at offset.
func (p *Page) tells(offset push.Offset) bool {
	return slices.ContainsFunc(p.Omitted, func(o store.Omission) bool { return o.First <= offset && offset <= o.Last })
}

// supersedes reports whether an entry of the page that is later than e has its
// collapse key.
func (p *Page) supersedes(e push.Entry) bool {
	key := e.Message.CollapseKey
	return key != "" && slices.ContainsFunc(p.Entries, func(later push.Entry) bool {
		return later.Offset > e.Offset && later.Message.CollapseKey == key
	})
}
