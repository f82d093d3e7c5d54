package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
)

// A LogQuery asks for the entries of Channel after an offset.
type LogQuery struct {
	Channel push.Channel
	After   push.Offset
	// MaxEntries and MaxBytes (of data; at least one entry comes) bound the
	// page; 0 means 1,000 entries and 256 KiB.
	MaxEntries int
	MaxBytes   int
}

// A LogPage is a run of a log's entries by rising offset, all of them after the
// query's After and above the floor of Term.
type LogPage struct {
	Entries []push.Entry // Data is empty where only the store holds it
	// ReachesBack is true if it is proved that between After and the page's end
	// the channel has nothing but the page. If false, the inbox is to be read
	// too, and both taken as one.
	ReachesBack bool
	// Uncovered is where ReachesBack is false: the largest offset of this term
	// that the log says nothing about, below the page's first entry or in a
	// break of the chain; larger than all offsets where even that is not known.
	Uncovered push.Offset
	More      bool        // the page was full: more follows in the log
	Last      push.Offset // the channel's newest offset in this term at the time of the read; 0 if not known
	Term      push.Term   // the term that the log was read in
}

const (
	defaultPageEntries = 1000
	defaultPageBytes   = 256 << 10
	// pieceEntries is how many entries a read asks for before it knows how large
	// they are: a log may hold far more than a page.
	pieceEntries = 32
)

// ReadLog reads a page of a channel's log.
func (r *Registry) ReadLog(ctx context.Context, q LogQuery) (LogPage, error) {
	return r.readLog(ctx, q, nil)
}

// RegisterAndRead writes the node's route for the channel of q and then reads
// its log, in one round trip: whatever is appended later finds the route, and
// whatever was appended before is in the page or behind it.
func (r *Registry) RegisterAndRead(ctx context.Context, node push.NodeID, registration int64, q LogQuery) (LogPage, error) {
	var page LogPage
	err := r.registering(node, ChannelRoute{q.Channel, registration}, func(first func(redis.Pipeliner)) (err error) {
		page, err = r.readLog(ctx, q, first)
		return err
	})
	return page, err
}

// LastInLog returns the newest offset of a channel in the term in force, 0 if
// it has none or that is not known.
func (r *Registry) LastInLog(ctx context.Context, c push.Channel) (push.Offset, error) {
	return r.lastInLog(ctx, c, nil)
}

// RegisterAndLast writes the node's route for the channel and then asks for its
// newest offset, in one round trip.
func (r *Registry) RegisterAndLast(ctx context.Context, node push.NodeID, registration int64, c push.Channel) (push.Offset, error) {
	var last push.Offset
	err := r.registering(node, ChannelRoute{c, registration}, func(first func(redis.Pipeliner)) (err error) {
		last, err = r.lastInLog(ctx, c, first)
		return err
	})
	return last, err
}

func (r *Registry) lastInLog(ctx context.Context, c push.Channel, first func(redis.Pipeliner)) (push.Offset, error) {
	for range settleTries {
		var read logRead
		t, err := r.inTerm(ctx, func(p redis.Pipeliner) {
			if first != nil {
				first(p)
			}
			read.addLast(p, c)
		})
		if err != nil {
			return 0, fmt.Errorf("ask for the end of %s: %w", c, err)
		}
		last, err := read.lastOffset(t)
		if err != nil {
			return 0, fmt.Errorf("ask for the end of %s: %w", c, err)
		}
		_, same, err := r.ensureBelow(ctx, t, last)
		if err != nil {
			return 0, err
		}
		if same {
			return last, nil
		}
	}
	return 0, ErrUnsettled
}

func (r *Registry) readLog(ctx context.Context, q LogQuery, first func(redis.Pipeliner)) (LogPage, error) {
	if q.MaxEntries <= 0 {
		q.MaxEntries = defaultPageEntries
	}
	if q.MaxBytes <= 0 {
		q.MaxBytes = defaultPageBytes
	}
	for range settleTries {
		var read logRead
		t, err := r.inTerm(ctx, func(p redis.Pipeliner) {
			if first != nil {
				first(p)
			}
			read.add(p, q)
		})
		if err == nil {
			err = r.readPieces(ctx, &read, q, t)
		}
		if err != nil {
			return LogPage{}, fmt.Errorf("read the log of %s: %w", q.Channel, err)
		}
		page, err := read.page(q, t)
		if err != nil {
			return LogPage{}, fmt.Errorf("read the log of %s: %w", q.Channel, err)
		}
		var same bool
		if page.Term, same, err = r.ensureBelow(ctx, t, page.Last); err != nil {
			return LogPage{}, err
		}
		if same {
			return page, nil
		}
	}
	return LogPage{}, ErrUnsettled
}

// readPieces takes what read has asked for in term t, and then piece by piece what
// a page may still take, as long as t is in force.
func (r *Registry) readPieces(ctx context.Context, read *logRead, q LogQuery, t push.Term) error {
	for now := t; now == t; {
		if err := read.take(t.Floor); err != nil || read.enough(q) {
			return err
		}
		var err error
		if now, err = r.inTerm(ctx, func(p redis.Pipeliner) { read.addMore(p, q, t.Floor) }); err != nil {
			return err
		}
	}
	return nil
}

// A logRead is the commands of one read of a log, and what they have brought.
type logRead struct {
	last  *redis.StringCmd
	slice *redis.XMessageSliceCmd
	asked int              // entries, by slice
	found []redis.XMessage // above the floor
	bytes int              // of found, about
	at    string           // the id of the last entry that was read, "" for none
	ended bool             // the log has no more
}

// addLast queues the question for the newest offset alone.
func (l *logRead) addLast(p redis.Pipeliner, c push.Channel) {
	l.last = p.HGet(context.Background(), seenKey(c), stateField)
}

// add queues the read. The newest offset is asked for first: whatever it says
// of the time before, the entries read after it can only add to. The entry at
// After itself is not asked for: the one behind it names it.
func (l *logRead) add(p redis.Pipeliner, q LogQuery) {
	l.addLast(p, q.Channel)
	l.ask(p, q, entryID(q.After), pieceEntries)
}

// addMore queues the read of what is behind the last entry and above the floor, as
// much as a page may still take if it is like what was found. What the log drops
// in between, the entry behind it tells.
func (l *logRead) addMore(p redis.Pipeliner, q LogQuery, floor push.Offset) {
	if len(l.found) == 0 {
		l.ask(p, q, entryID(max(q.After, floor)), pieceEntries)
		return
	}
	l.ask(p, q, l.at, max(pieceEntries, (q.MaxBytes-l.bytes)*len(l.found)/l.bytes+1))
}

// ask queues the read of n entries behind id, at most as many as make a page
// full and one more.
func (l *logRead) ask(p redis.Pipeliner, q LogQuery, id string, n int) {
	l.asked = min(n, q.MaxEntries+1-len(l.found))
	l.slice = p.XRangeN(context.Background(), logKey(q.Channel), "("+id, "+", int64(l.asked))
}

// take takes the answer to the last read, without what is not above the floor.
func (l *logRead) take(floor push.Offset) error {
	found, err := l.slice.Result()
	if err != nil {
		return err
	}
	for _, x := range found {
		l.at = x.ID
		if offset, err := parseID(x.ID); err != nil || offset <= floor {
			continue
		}
		m, _ := x.Values["m"].(string) // what is none of ours has no size
		l.bytes += len(m) + 1
		l.found = append(l.found, x)
	}
	l.ended = len(found) < l.asked
	return nil
}

// enough reports whether a page can be made of what was found.
func (l *logRead) enough(q LogQuery) bool {
	return l.ended || len(l.found) > q.MaxEntries || l.bytes > 2*q.MaxBytes
}

// lastOffset returns the newest offset in term t, 0 if it is not known.
func (l *logRead) lastOffset(t push.Term) (push.Offset, error) {
	text, err := l.last.Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	last, err := parseState(text)
	if err != nil || last <= t.Floor {
		return 0, err
	}
	return last, nil
}

// page makes a page of what was read. An entry that cannot be read is left to
// the inbox.
func (l *logRead) page(q LogQuery, t push.Term) (LogPage, error) {
	page := LogPage{Term: t}
	var err error
	if page.Last, err = l.lastOffset(t); err != nil {
		return LogPage{}, err
	}
	inTerm := q.After >= t.Floor && q.After > 0
	page.ReachesBack = inTerm && q.After == page.Last
	page.Uncovered = maxOffset // until an entry or the newest offset tells
	if page.Last > 0 {
		page.Uncovered = page.Last
	}
	chain := q.After // the offset that the next entry must follow
	bytes := 0
	for _, x := range l.found {
		e, err := decodeEntry(q.Channel, x, t.Floor)
		if err != nil {
			page.ReachesBack = false
			continue
		}
		if len(page.Entries) == q.MaxEntries || len(page.Entries) > 0 && bytes+len(e.Message.Data) > q.MaxBytes {
			page.More = true
			break
		}
		if len(page.Entries) == 0 {
			page.ReachesBack = inTerm && e.Prev != 0 && e.Prev <= q.After
			page.Uncovered = before(e)
		} else if e.Prev != chain {
			page.ReachesBack = false
			page.Uncovered = before(e)
		}
		chain = e.Offset
		bytes += len(e.Message.Data)
		page.Entries = append(page.Entries, e)
		page.Last = max(page.Last, e.Offset)
	}
	if !page.More && !l.ended {
		// The bytes were not all data, or the term has changed. Of a page without an
		// entry nobody could read on.
		page.More = len(page.Entries) > 0
		page.ReachesBack = page.ReachesBack && page.More
	}
	if page.ReachesBack {
		page.Uncovered = 0
	}
	return page, nil
}

// before returns the offset of the entry before e, or the largest that it may
// have had.
func before(e push.Entry) push.Offset {
	if e.Prev != 0 {
		return e.Prev
	}
	return e.Offset - 1
}
