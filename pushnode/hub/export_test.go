package hub

import (
	"unsafe"

	"pushcluster/shared/push"
)

// Offsets returns the offsets of the entries that p holds.
func Offsets(p *Publication) []push.Offset {
	var list []push.Offset
	for _, e := range p.before {
		list = append(list, e.Offset)
	}
	return append(list, p.Offset)
}

// MaxWaiting is how many entries wait for a pass before those who deliver do.
const MaxWaiting = maxWaiting

// ChannelSize is what a channel takes, with its first subscription.
const ChannelSize = unsafe.Sizeof(Channel{})
