package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/store"
)

// at returns an entry for message id at offset, with a collapse key if given.
func at(offset push.Offset, id string, key ...string) push.Entry {
	m := &push.Message{ID: push.MessageID(id)}
	if len(key) > 0 {
		m.CollapseKey = key[0]
	}
	return push.Entry{Offset: offset, Message: m}
}

func list(entries []push.Entry) []string {
	var l []string
	for _, e := range entries {
		l = append(l, fmt.Sprint(e.Offset, e.Message.ID))
	}
	return l
}

func TestMerge(t *testing.T) {
	tests := map[string]struct {
		inbox store.InboxPage
		log   registry.LogPage
		want  []string
	}{
		"both have all":               {store.InboxPage{Entries: []push.Entry{at(1, "a"), at(2, "b")}}, registry.LogPage{Entries: []push.Entry{at(1, "a"), at(2, "b")}}, []string{"1a", "2b"}},
		"the log is ahead":            {store.InboxPage{Entries: []push.Entry{at(1, "a")}}, registry.LogPage{Entries: []push.Entry{at(1, "a"), at(2, "b")}}, []string{"1a", "2b"}},
		"the log lost one in between": {store.InboxPage{Entries: []push.Entry{at(1, "a"), at(2, "b")}}, registry.LogPage{Entries: []push.Entry{at(3, "c")}}, []string{"1a", "2b", "3c"}},
		"the inbox lacks one":         {store.InboxPage{Entries: []push.Entry{at(3, "c")}}, registry.LogPage{Entries: []push.Entry{at(2, "b"), at(3, "c")}}, []string{"2b", "3c"}},
		"a message twice: the inbox":  {store.InboxPage{Entries: []push.Entry{at(1, "a")}}, registry.LogPage{Entries: []push.Entry{at(5, "a"), at(6, "b")}}, []string{"1a", "6b"}},
		"the inbox was cut":           {store.InboxPage{Entries: []push.Entry{at(1, "a"), at(2, "b")}, More: true}, registry.LogPage{Entries: []push.Entry{at(9, "z")}}, []string{"1a", "2b"}},
		"the log was cut":             {store.InboxPage{Entries: []push.Entry{at(1, "a"), at(9, "z")}}, registry.LogPage{Entries: []push.Entry{at(2, "b")}, More: true}, []string{"1a", "2b"}},
		"nothing":                     {store.InboxPage{}, registry.LogPage{}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := list(merge(tt.inbox, tt.log)); !slices.Equal(got, tt.want) {
				t.Errorf("merge = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestOmit(t *testing.T) {
	now := time.Now()
	p := hub.Page{Entries: []push.Entry{at(1, "a", "k"), at(2, "b"), at(3, "c", "k"), at(4, "d", "l"), at(5, "e", "k"), at(6, "f")}}
	for _, e := range p.Entries {
		e.Message.ExpiresAt = now.Add(time.Hour)
	}
	p.Entries[5].Message.ExpiresAt = now
	omit(&p, now)
	if got, want := list(p.Entries), []string{"2b", "4d", "5e"}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	var omitted []push.Offset
	for _, o := range p.Omitted {
		omitted = append(omitted, o.First)
	}
	if want := []push.Offset{1, 3, 6}; !slices.Equal(omitted, want) {
		t.Errorf("omitted %v, want %v", omitted, want)
	}
}
