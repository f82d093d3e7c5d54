package registry_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

// A model is what a channel's log must look like: the simple truth that the
// script is held against.
type model struct {
	term    push.Term
	entries []push.Entry // of this term, the newest most
	ever    push.Offset  // the largest offset ever returned
}

// TestAppendModel appends, reads, flushes and turns the clock in any order, and
// compares with the model after each step.
func TestAppendModel(t *testing.T) {
	const most = 5
	s := registrytest.Mini(t)
	rapid.Check(t, func(rt *rapid.T) {
		s.FlushAll()
		now := time.Now()
		s.Mini().SetTime(now)
		terms := &registrytest.Terms{}
		r, err := registry.Open(s.URL(), terms, registry.Config{MaxEntries: most, MaxAge: 24 * time.Hour, Keep: 48 * time.Hour, Young: 1})
		if err != nil {
			rt.Fatal(err)
		}
		defer r.Close()
		models := map[push.Channel]*model{"#1": {}, "#2": {}}
		channel := rapid.SampledFrom([]push.Channel{"#1", "#2"})
		id := rapid.IntRange(0, 12)
		ctx := context.Background()
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				c, n := channel.Draw(rt, "channel"), id.Draw(rt, "id")
				m := message(fmt.Sprint("m", n))
				a, err := r.Append(ctx, []registry.Item{{Channel: c, Message: m, Asked: true}})
				if err != nil || a.Items[0].Err != nil {
					rt.Fatalf("append: %v %v", err, a)
				}
				models[c].append(rt, a, m.ID, most)
			},
			"flush": func(*rapid.T) { s.FlushAll() },
			"clock": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(-3600, 3600).Draw(rt, "seconds")) * time.Second)
				s.Mini().SetTime(now)
			},
			"read": func(rt *rapid.T) {
				c := channel.Draw(rt, "channel")
				var after push.Offset
				if known := models[c].entries; len(known) > 0 {
					after = known[rapid.IntRange(0, len(known)-1).Draw(rt, "after")].Offset
				}
				p, err := r.ReadLog(ctx, registry.LogQuery{Channel: c, After: after})
				if err != nil {
					rt.Fatal(err)
				}
				models[c].read(rt, p, after)
			},
		})
	})
}

func (m *model) in(t push.Term) {
	if m.term.Marker != t.Marker {
		m.entries = nil
	}
	m.term = t
}

func (m *model) append(rt *rapid.T, a registry.Appended, id push.MessageID, most int) {
	m.in(a.Term)
	it := a.Items[0]
	if it.Offset <= a.Term.Floor || it.Offset >= a.Term.Ceiling {
		rt.Fatalf("offset %d is not between floor and ceiling of %+v", it.Offset, a.Term)
	}
	for i, e := range m.entries {
		if e.Message.ID == id {
			if !it.Repeat || it.Offset != e.Offset || it.Prev != e.Prev {
				rt.Fatalf("append of %s again = %+v, entry %d is %+v", id, it, i, e)
			}
			return
		}
	}
	var prev push.Offset
	if n := len(m.entries); n > 0 {
		prev = m.entries[n-1].Offset
	}
	if it.Repeat || it.Offset <= m.ever || it.Prev != prev {
		rt.Fatalf("append of %s = %+v, want a new one above %d after %d", id, it, m.ever, prev)
	}
	m.ever = it.Offset
	m.entries = append(m.entries, push.Entry{Offset: it.Offset, Prev: it.Prev, Message: &push.Message{ID: id}})
	m.entries = m.entries[max(0, len(m.entries)-most):]
}

func (m *model) read(rt *rapid.T, p registry.LogPage, after push.Offset) {
	m.in(p.Term)
	var want []push.Entry
	held := false
	for _, e := range m.entries {
		held = held || e.Offset == after
		if e.Offset > after {
			want = append(want, e)
		}
	}
	if len(p.Entries) != len(want) {
		rt.Fatalf("read after %d = %d entries, want %d", after, len(p.Entries), len(want))
	}
	for i, e := range p.Entries {
		if e.Offset != want[i].Offset || e.Prev != want[i].Prev || e.Message.ID != want[i].Message.ID {
			rt.Fatalf("entry %d = %+v, want %+v", i, e, want[i])
		}
	}
	if p.ReachesBack != held {
		rt.Fatalf("read after %d reaches back: %v, want %v", after, p.ReachesBack, held)
	}
}
