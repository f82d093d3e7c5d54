package registry_test

import (
	"context"
	"fmt"
	"slices"
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
	entries []push.Entry                   // of this term, the newest most
	ever    push.Offset                    // the largest offset ever returned
	places  map[push.MessageID]push.Offset // where each message was put last: what an inbox would say
}

// TestAppendModel has two processes append in every way, read, flush and turn the
// clock in any order, and compares with the model after each step.
func TestAppendModel(t *testing.T) {
	const most = 5
	s := registrytest.Mini(t)
	rapid.Check(t, func(rt *rapid.T) {
		s.FlushAll()
		now := time.Now()
		s.Mini().SetTime(now)
		terms := &registrytest.Terms{}
		var processes []*registry.Registry
		for range 2 {
			r, err := registry.Open(s.URL(), terms, registry.Config{MaxEntries: most, MaxAge: 24 * time.Hour, Keep: 48 * time.Hour, Young: 1,
				Timeout: time.Minute}) // the machine may be busy with other tests
			if err != nil {
				rt.Fatal(err)
			}
			defer r.Close()
			processes = append(processes, r)
		}
		models := map[push.Channel]*model{"#1": {places: make(map[push.MessageID]push.Offset)}, "#2": {places: make(map[push.MessageID]push.Offset)}}
		process := rapid.SampledFrom(processes)
		channel := rapid.SampledFrom([]push.Channel{"#1", "#2"})
		id := rapid.IntRange(0, 12)
		ctx := context.Background()
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				c, n := channel.Draw(rt, "channel"), id.Draw(rt, "id")
				it := models[c].item(rt, c, message(fmt.Sprint("m", n)))
				a, err := process.Draw(rt, "process").Append(ctx, []registry.Item{it})
				if err != nil || a.Items[0].Err != nil {
					rt.Fatalf("append: %v %v", err, a)
				}
				models[c].append(rt, a, it, most)
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
				p, err := process.Draw(rt, "process").ReadLog(ctx, registry.LogQuery{Channel: c, After: after})
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

// item draws how a message is appended: the inbox was asked and has it nowhere, or
// where it was put last, or its place there turned out to be another's; or it was
// not asked.
func (m *model) item(rt *rapid.T, c push.Channel, text *push.Message) registry.Item {
	it := registry.Item{Channel: c, Message: text, Asked: true}
	switch rapid.SampledFrom([]string{"new", "new", "again", "placed", "above"}).Draw(rt, "how") {
	case "again":
		it.Again, it.Asked = true, false
	case "placed":
		it.Again, it.Placed = true, m.places[text.ID]
	case "above":
		it.Again, it.Above = true, m.places[text.ID]+push.Offset(rapid.IntRange(0, 3).Draw(rt, "further"))
	}
	return it
}

// known returns the log's entry of a message above an offset, and whether there is
// one: the last, where it was put there more than once.
func (m *model) known(id push.MessageID, above push.Offset) (push.Entry, bool) {
	for _, e := range slices.Backward(m.entries) {
		if e.Message.ID == id {
			return e, e.Offset > above
		}
	}
	return push.Entry{}, false
}

func (m *model) append(rt *rapid.T, a registry.Appended, asked registry.Item, most int) {
	m.in(a.Term)
	it, id := a.Items[0], asked.Message.ID
	e, known := m.known(id, asked.Above)
	switch {
	case known && (!it.Repeat || it.Ask || it.Offset != e.Offset || it.Prev != e.Prev):
		rt.Fatalf("append of %s again = %+v, its entry is %+v", id, it, e)
	case known:
		return
	case asked.Placed != 0:
		if !it.Repeat || it.Ask || it.Offset != asked.Placed || it.Prev != 0 {
			rt.Fatalf("append of %s, which the inbox has at %d, = %+v", id, asked.Placed, it)
		}
		return
	case !asked.Asked:
		if !it.Ask || it.Offset != 0 {
			rt.Fatalf("append of %s, of which the inbox was not asked, = %+v", id, it)
		}
		return
	}
	if it.Ask || it.Offset <= a.Term.Floor || it.Offset >= a.Term.Ceiling {
		rt.Fatalf("offset %d is not between floor and ceiling of %+v", it.Offset, a.Term)
	}
	var prev push.Offset
	if n := len(m.entries); n > 0 {
		prev = m.entries[n-1].Offset
	}
	if it.Repeat || it.Offset <= max(m.ever, asked.Above) || it.Prev != prev {
		rt.Fatalf("append of %s = %+v, want a new one above %d after %d", id, it, m.ever, prev)
	}
	m.ever, m.places[id] = it.Offset, it.Offset
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
