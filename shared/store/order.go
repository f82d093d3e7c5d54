package store

import "pushcluster/shared/push"

// An Order is what the ordered ones among some entries of the outbox have in
// common, for the homes of the store.
type Order struct {
	Sequences []int64
	Largest   int64 // of Sequences; 0 if there are none
	entries   []OutboxEntry
}

// OrderOf returns the order of entries.
func OrderOf(entries []OutboxEntry) Order {
	o := Order{entries: entries}
	for i := range entries {
		if n := entries[i].Sequence; n > 0 {
			o.Sequences = append(o.Sequences, n)
			o.Largest = max(o.Largest, n)
		}
	}
	return o
}

// Channels returns the channels of the ordered entries, each once.
func (o Order) Channels() []push.Channel {
	var list []push.Channel
	seen := make(map[push.Channel]bool)
	for i := range o.entries {
		for _, c := range o.entries[i].Channels {
			if o.entries[i].Sequence > 0 && !seen[c] {
				seen[c] = true
				list = append(list, c)
			}
		}
	}
	return list
}
