package registry

import (
	"context"

	"pushcluster/shared/push"
)

// TermTurn is for how long a term that goes on at another Redis is left alone.
const TermTurn = termTurn

// AppendAfter appends one item as if it came behind another message in its call.
func (r *Registry) AppendAfter(ctx context.Context, item Item, after push.MessageID) (AppendedItem, error) {
	t, err := r.known(ctx)
	if err != nil {
		return AppendedItem{}, err
	}
	items := []Item{item}
	a := &appending{t, items, r.payloads(items), asking(t, items), []push.MessageID{after}, make([]AppendedItem, 1)}
	if _, err := r.appendPart(ctx, a, []int{0}); err != nil {
		return AppendedItem{}, err
	}
	return a.results[0], nil
}

// AppendScript returns the script that Append calls.
func (r *Registry) AppendScript() string { return r.script.text }
