//go:build linux

package compare

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Derived is a figure that several rows or targets tell together.
type Derived struct {
	Name  string  `json:"name"`
	About string  `json:"about"`
	Value float64 `json:"value"` // µs of processor time, or a multiple where the name says so
}

// derive computes what the durable write and Redis cost for a message.
func (r *Report) derive() {
	for _, t := range r.Targets {
		if store, ok := strings.CutPrefix(t.Name, "node+"); ok {
			r.deriveDurable(t, store)
		}
		r.deriveRedis(t)
	}
}

// deriveDurable compares Dispatch with its durable write and without.
func (r *Report) deriveDurable(durable *Target, store string) {
	at := slices.IndexFunc(r.Targets, func(t *Target) bool { return t.Name == "node" })
	if at < 0 {
		return
	}
	for _, row := range []string{"unicast", "batched"} {
		with, ok := durable.Value(row, "cpu.dispatch")
		without, ok2 := r.Targets[at].Value(row, "cpu.dispatch")
		if ok && ok2 {
			r.Derived = append(r.Derived, Derived{"durable." + store + "." + row,
				fmt.Sprintf("durable write (inbox) in %s, for a message of row %s, µs", store, row), with - without})
		}
	}
}

// deriveRedis sets what Redis spends on a message beside what it spends on one
// plain append.
func (r *Report) deriveRedis(t *Target) {
	plain, ok := t.Value("xadd", "cpu.redis")
	if !ok || plain == 0 {
		return
	}
	if v, ok := t.Value("batched", "cpu.redis"); ok {
		r.Derived = append(r.Derived,
			Derived{t.Name + ".redis", "Redis for one of many messages on " + t.Name + ", µs", v},
			Derived{t.Name + ".redis.multiple", "the same as a multiple of one pipelined XADD * on " + t.Name, v / plain})
	}
}

func (r *Report) printDerived(out io.Writer) {
	if len(r.Derived) == 0 {
		return
	}
	lines := [][]string{{"derived", ""}}
	for _, d := range r.Derived {
		lines = append(lines, []string{d.About, short(d.Value)})
	}
	fmt.Fprintln(out)
	printTable(out, lines)
}
