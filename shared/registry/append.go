package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
)

// appendAtOnce is how many items go in one pipeline: enough to make the round
// trip cheap, few enough for each to meet its deadline on a slow server.
const appendAtOnce = 2000

// olderMargin is how far the clock that stamped a message may be ahead of
// Redis', when it is asked whether the message is older than the term.
const olderMargin = time.Minute

// An Item is one message for one channel.
type Item struct {
	Channel push.Channel
	Message *push.Message // not changed, and not kept after the call
	// Again is true if the message may have been appended before, by anybody.
	Again bool
	// Asked is true if the inbox was asked where it has the message: at Placed,
	// or nowhere if that is zero. It is needed only where an earlier call
	// answered Ask.
	Asked  bool
	Placed push.Offset
	// Above is an offset that turned out to be another message's: the message
	// gets one above it, even if it has a place in the log. Zero for none.
	Above push.Offset
}

// Appended is the outcome of [Registry.Append].
type Appended struct {
	Term  push.Term      // the term that the offsets belong to
	Items []AppendedItem // in the order of the call
}

// An AppendedItem is the outcome of one [Item].
type AppendedItem struct {
	Offset push.Offset
	// Prev is the offset before it in the log; zero if that is not known.
	Prev push.Offset
	// Repeat is true if the message had this offset before the call.
	Repeat bool
	// Ask is true if nothing was appended, because the message may have been
	// before and only the inbox knows. Ask it and append again with Asked.
	Ask    bool
	Routes []Route // not to be changed: others in the same channel have the same
	Err    error   // this item failed; whether it was appended is not known
}

// A Route says that the channel has connections on the node, by this
// registration.
type Route struct {
	Node         push.NodeID
	Registration int64
}

// Append gives each item its place in its channel's log, in one pipeline (in
// several, if there are thousands) and in the order of items, and returns the places with each channel's routes. A
// message that the log still holds keeps its place. An item that fails fails
// those behind it in its channel, too. All offsets of the answer
// are above the floor and below the ceiling of the one term they belong to;
// only an offset that came in as Placed may be below the floor.
//
// An error means that nothing is known about any item. Append may be repeated:
// it finds what it did before.
func (r *Registry) Append(ctx context.Context, items []Item) (Appended, error) {
	if len(items) == 0 {
		t, err := r.known(ctx)
		return Appended{Term: t}, err
	}
	payloads := r.payloads(items)
	t, err := r.known(ctx)
	if err != nil {
		return Appended{}, err
	}
	var before []AppendedItem // what this call did in a term that then ended
	for range settleTries {
		results, marker, err := r.appendOnce(ctx, t, items, payloads)
		if err != nil {
			return Appended{}, err
		}
		for i := range before {
			// What this call itself appended is no repeat.
			results[i].Repeat = results[i].Repeat && (before[i].Repeat || before[i].Offset != results[i].Offset)
		}
		var same bool
		if t, same, err = r.still(ctx, t, marker); err != nil {
			return Appended{}, err
		}
		if same {
			if t, same, err = r.ensureBelow(ctx, t, largest(results)); err != nil {
				return Appended{}, err
			}
		}
		if same {
			return Appended{Term: t, Items: results}, nil
		}
		before = results
	}
	return Appended{}, ErrUnsettled
}

func largest(results []AppendedItem) push.Offset {
	var most push.Offset
	for i := range results {
		most = max(most, results[i].Offset)
	}
	return most
}

// messageHead is about how long a message is in binary without its data.
const messageHead = 160

// payloads returns by item its message as logs keep it: in binary, without
// recipients, and without data if that is too much for what it is appended to.
func (r *Registry) payloads(items []Item) [][]byte {
	encode := func(m *push.Message, channels int) []byte {
		return push.AppendMessage(make([]byte, 0, len(m.Data)+messageHead), m, len(m.Data)*channels <= r.cfg.MaxSpread)
	}
	payloads := make([][]byte, len(items))
	if len(items) == 1 {
		payloads[0] = encode(items[0].Message, 1)
		return payloads
	}
	channels := make(map[*push.Message]int)
	for i := range items {
		channels[items[i].Message]++
	}
	encoded := make(map[*push.Message][]byte, len(channels))
	for i := range items {
		m := items[i].Message
		if encoded[m] == nil {
			encoded[m] = encode(m, channels[m])
		}
		payloads[i] = encoded[m]
	}
	return payloads
}

// An appending is one attempt to append all items of a call in one term.
type appending struct {
	term     push.Term
	items    []Item
	payloads [][]byte         // by item
	ask      []bool           // by item: whether nothing may be appended that the log does not know
	after    []push.MessageID // by item: which message must be in the log before, "" for none
	results  []AppendedItem
}

// appendOnce appends items under the floor of term t and returns the marker
// that was read before them in the same pipelines: t's, unless some were
// appended when that was gone already.
func (r *Registry) appendOnce(ctx context.Context, t push.Term, items []Item, payloads [][]byte) ([]AppendedItem, string, error) {
	a := &appending{t, items, payloads, asking(t, items), following(items), make([]AppendedItem, len(items))}
	all := make([]int, len(items))
	for i := range all {
		all[i] = i
	}
	for todo := range slices.Chunk(all, appendAtOnce) {
		marker, err := r.appendPart(ctx, a, todo)
		if err != nil || marker != t.Marker {
			return a.results, marker, err
		}
	}
	return a.results, t.Marker, nil
}

// appendPart appends the items that todo names and sets their results. A server
// that does not know the script gets it, and what it refused is tried again.
func (r *Registry) appendPart(ctx context.Context, a *appending, todo []int) (marker string, err error) {
	for try := 0; ; try++ {
		groups := r.groups(a, todo)
		calls, marker, err := r.appendCalls(ctx, a, groups)
		if err != nil {
			return "", err
		}
		var unknown []int // what found no script on its server
		for n, group := range groups {
			call := calls[n]
			if redis.HasErrorPrefix(call.err, "NOSCRIPT") {
				unknown = append(unknown, group...)
			}
			for k, i := range group {
				item, err := call.item(k)
				if err != nil {
					r.connections.refused(err) // the script told it of the item alone
					item.Err = fmt.Errorf("append to %s: %w", a.items[i].Channel, err)
				}
				a.results[i] = item
			}
		}
		if len(unknown) == 0 || try == 3 {
			return marker, nil
		}
		if err := r.loadScript(ctx); err != nil {
			return "", err
		}
		todo = unknown
	}
}

// appendPerScript bounds how many items one call of the script appends: more cost
// hardly less each, and Redis does nothing else meanwhile.
const appendPerScript = 16

// appendInLane bounds how many calls of the script may share a pipeline with what
// others send: a large append takes long, and nobody else should.
const appendInLane = 4

// groups cuts todo into the runs that one call of the script appends. In a
// Cluster only what is of one channel is known to share a slot.
func (r *Registry) groups(a *appending, todo []int) [][]int {
	groups := make([][]int, 0, len(todo)/appendPerScript+1)
	for from := 0; from < len(todo); {
		to := from + 1
		for to < len(todo) && to-from < appendPerScript && !(r.lanes.cluster && a.items[todo[to]].Channel != a.items[todo[from]].Channel) {
			to++
		}
		groups = append(groups, todo[from:to])
		from = to
	}
	return groups
}

// appendCalls sends a call of the script for each group, behind a read of the
// marker, and returns the calls, answered. A few go along with what others send.
func (r *Registry) appendCalls(ctx context.Context, a *appending, groups [][]int) ([]*scriptCall, string, error) {
	calls := make([]*scriptCall, len(groups))
	for n, group := range groups {
		calls[n] = a.call(group)
	}
	var marker string
	var err error
	if len(groups) <= appendInLane {
		marker, err = r.lanes.call(ctx, calls)
	} else {
		bounded, cancel := context.WithTimeout(ctx, r.cfg.Timeout+time.Duration(len(groups)*appendPerScript)*time.Millisecond)
		defer cancel()
		p := r.rdb.Pipeline()
		sent := scriptCalls{hash: r.script.hash, cluster: r.lanes.cluster}
		marker, err = r.underMarker(bounded, p, func() {
			for _, c := range calls {
				sent.send(p, c)
			}
			sent.readRoutes(p)
		})
		sent.answer()
	}
	if err != nil {
		return nil, "", fmt.Errorf("append: %w", err)
	}
	return calls, marker, nil
}

// call returns the call of the script for the items of group.
func (a *appending) call(group []int) *scriptCall {
	c := &scriptCall{
		floor:    a.term.Floor,
		channels: make([]push.Channel, 0, len(group)),
		args:     make([]any, 0, itemArgs*len(group)),
	}
	for _, i := range group {
		it, special := &a.items[i], ""
		if a.ask[i] || it.Placed != 0 || it.Above != 0 || a.after[i] != "" {
			ask := 0
			if a.ask[i] {
				ask = 1
			}
			special = fmt.Sprintf("%d %d %d %s", ask, it.Placed, it.Above, a.after[i])
		}
		c.channels = append(c.channels, it.Channel)
		c.args = append(c.args, a.payloads[i], special)
	}
	return c
}

// asking returns for each item whether the inbox must be asked before anything
// is appended: whether the message may stand there where neither the caller nor
// the log would know. What follows such an item in its channel must not
// overtake it.
func asking(t push.Term, items []Item) []bool {
	ask := make([]bool, len(items))
	var held map[push.Channel]bool
	for i := range items {
		it := &items[i]
		older := t.Number > 1 && push.OffsetAt(it.Message.CreatedAt.Add(-olderMargin)) <= t.Floor
		if it.Asked || !it.Again && !older && !held[it.Channel] {
			continue
		}
		ask[i] = true
		if held == nil {
			held = make(map[push.Channel]bool)
		}
		held[it.Channel] = true
	}
	return ask
}

// following returns for each item the message that comes before it in its
// channel. If Redis refused that one, because it was full at that moment or did
// not know the script yet, this one must not be appended: it would overtake.
func following(items []Item) []push.MessageID {
	after := make([]push.MessageID, len(items))
	if len(items) == 1 {
		return after
	}
	last := make(map[push.Channel]push.MessageID, len(items))
	for i := range items {
		it := &items[i]
		after[i] = last[it.Channel]
		if it.Placed == 0 { // else the inbox has it, and the log may not
			last[it.Channel] = it.Message.ID
		}
	}
	return after
}
