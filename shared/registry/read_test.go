package registry_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

func TestReadLog(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{MaxEntries: 4, Young: 1})
		var at []push.Offset // at[i] is the offset of message i; the log holds 2 to 5
		for i := range 6 {
			at = append(at, b.add(t, "#42", fmt.Sprint(i)).Offset)
		}
		floor := b.term(t).Floor
		tests := map[string]struct {
			q        registry.LogQuery
			want     string
			back     bool
			more     bool
			wantLast push.Offset
		}{
			"from the start":          {registry.LogQuery{}, "2 3 4 5", false, false, at[5]},
			"from the floor":          {registry.LogQuery{After: floor}, "2 3 4 5", false, false, at[5]},
			"below the floor":         {registry.LogQuery{After: floor - 1}, "2 3 4 5", false, false, at[5]},
			"from one trimmed before": {registry.LogQuery{After: at[0]}, "2 3 4 5", false, false, at[5]},
			"from the trimmed last":   {registry.LogQuery{After: at[1]}, "2 3 4 5", true, false, at[5]},
			"from one held":           {registry.LogQuery{After: at[3]}, "4 5", true, false, at[5]},
			"between two":             {registry.LogQuery{After: at[3] - 1}, "3 4 5", true, false, at[5]},
			"from the end":            {registry.LogQuery{After: at[5]}, "", true, false, at[5]},
			"beyond the end":          {registry.LogQuery{After: at[5] + 5}, "", false, false, at[5]},
			"two":                     {registry.LogQuery{After: at[2], MaxEntries: 2}, "3 4", true, true, at[5]},
			"exactly the rest":        {registry.LogQuery{After: at[2], MaxEntries: 3}, "3 4 5", true, false, at[5]},
			"one by bytes":            {registry.LogQuery{After: at[2], MaxBytes: 1}, "3", true, true, at[5]},
			"another channel":         {registry.LogQuery{Channel: "none", After: at[2]}, "", false, false, 0},
		}
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				if tt.q.Channel == "" {
					tt.q.Channel = "#42"
				}
				p := b.read(t, tt.q)
				if ids(p) != tt.want || p.ReachesBack != tt.back || p.More != tt.more || p.Last != tt.wantLast {
					t.Errorf("ReadLog(%+v) = %q back=%v more=%v last=%d, want %q %v %v %d",
						tt.q, ids(p), p.ReachesBack, p.More, p.Last, tt.want, tt.back, tt.more, tt.wantLast)
				}
				for _, e := range p.Entries {
					if e.Channel != tt.q.Channel || e.Offset <= tt.q.After || !e.Message.To.IsZero() {
						t.Errorf("entry %+v does not belong here", e)
					}
				}
			})
		}
		if last, err := b.LastInLog(t.Context(), "#42"); last != at[5] || err != nil {
			t.Errorf("LastInLog = %d, %v, want %d", last, err, at[5])
		}
		if last, err := b.LastInLog(t.Context(), "none"); last != 0 || err != nil {
			t.Errorf("LastInLog(none) = %d, %v, want 0", last, err)
		}
	})
}

// What of an earlier term is in Redis still is not read from the log.
func TestReadLogSkipsOldTerms(t *testing.T) {
	b := newBench(t, registrytest.Redis(t), registry.Config{})
	old := b.add(t, "c", "old")
	b.server.StopSaving()
	b.server.Start()
	if p := b.read(t, registry.LogQuery{Channel: "c"}); len(p.Entries) != 0 || p.Last != 0 || p.ReachesBack {
		t.Errorf("ReadLog = %+v, want nothing", p)
	}
	next := b.asked(t, "c", "new")
	p := b.read(t, registry.LogQuery{Channel: "c", After: old.Offset})
	if ids(p) != "new" || p.ReachesBack || p.Entries[0].Prev != 0 {
		t.Errorf("ReadLog = %q back=%v, want new without predecessor", ids(p), p.ReachesBack)
	}
	// The repeat of the old one is not found at its old place.
	again := b.append(t, registry.Item{Channel: "c", Message: message("old"), Asked: true}).Items[0]
	if again.Repeat || again.Offset <= next.Offset {
		t.Errorf("the old one again = %+v, want a new place", again)
	}
}

// A page is whole however many pieces it was read in, and whatever of an earlier
// term lies before it.
func TestReadLogInPieces(t *testing.T) {
	b := newBench(t, registrytest.Redis(t), registry.Config{})
	fill := func(prefix string, n int) (last push.Offset) {
		var items []registry.Item
		for i := range n {
			items = append(items, registry.Item{Channel: "c", Message: message(fmt.Sprint(prefix, i)), Asked: true})
		}
		for _, it := range b.append(t, items...).Items {
			last = it.Offset
		}
		return last
	}
	old := fill("old", 70)
	b.server.StopSaving()
	b.server.Start()
	b.read(t, registry.LogQuery{Channel: "c"}) // a new term
	fill("m", 100)
	tests := map[string]struct {
		q     registry.LogQuery
		want  int // entries of the first page
		pages int
	}{
		"all at once":            {registry.LogQuery{}, 100, 1},
		"behind the earlier":     {registry.LogQuery{After: old}, 100, 1},
		"by count":               {registry.LogQuery{MaxEntries: 40}, 40, 3},
		"exactly":                {registry.LogQuery{MaxEntries: 100}, 100, 1},
		"by bytes":               {registry.LogQuery{MaxBytes: 1}, 1, 100},
		"by bytes, in some":      {registry.LogQuery{MaxBytes: 100}, 0, 0},
		"as many as in a piece":  {registry.LogQuery{MaxEntries: 32}, 32, 4},
		"one less than in piece": {registry.LogQuery{MaxEntries: 31}, 31, 4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.q.Channel = "c"
			var got []string
			pages, more := 0, true
			for q := tt.q; more; pages++ {
				p := b.read(t, q)
				if pages == 0 && tt.want > 0 && len(p.Entries) != tt.want {
					t.Errorf("the first page has %d entries, want %d", len(p.Entries), tt.want)
				}
				for _, e := range p.Entries {
					got = append(got, string(e.Message.ID))
					q.After = e.Offset
				}
				if more = p.More; pages > 0 && !p.ReachesBack {
					t.Errorf("page %d does not reach back", pages)
				}
			}
			if len(got) != 100 || got[0] != "m0" || got[99] != "m99" {
				t.Errorf("read are %d entries: %q", len(got), got)
			}
			if tt.pages > 0 && pages != tt.pages {
				t.Errorf("they come in %d pages, want %d", pages, tt.pages)
			}
		})
	}
}

func TestUnreadableEntryIsLeftToTheInbox(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{})
		first := b.add(t, "c", "m1")
		bad := first.Offset + 1
		id := fmt.Sprintf("%d-%d", bad/push.OffsetsPerMilli, bad%push.OffsetsPerMilli)
		if _, err := registrytest.Do(s.Addr(), "XADD", "push:{c}:log", id, "p", "0", "n", "1", "b", "100", "m", "{"); err != nil {
			t.Fatal(err)
		}
		if p := b.read(t, registry.LogQuery{Channel: "c", After: first.Offset}); p.ReachesBack || len(p.Entries) != 0 {
			t.Errorf("ReadLog = %+v, want nothing that reaches back", p)
		}
	})
}

func TestRoutes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{})
		routes := func() string {
			var list []string
			for _, r := range b.add(t, "#42", "m").Routes {
				list = append(list, fmt.Sprintf("%s/%d", r.Node, r.Registration))
			}
			slices.Sort(list)
			return strings.Join(list, " ")
		}
		ctx := t.Context()
		steps := []struct {
			name string
			do   func() error
			want string
		}{
			{"first", func() error {
				return b.AddRoutes(ctx, "n1", []registry.ChannelRoute{{"#42", 1}, {"news", 2}})
			}, "n1/1"},
			{"second node, with a read", func() error {
				_, err := b.RegisterAndRead(ctx, "n2", 5, registry.LogQuery{Channel: "#42"})
				return err
			}, "n1/1 n2/5"},
			{"third node, with the last", func() error {
				_, err := b.RegisterAndLast(ctx, "n3", 6, "#42")
				return err
			}, "n1/1 n2/5 n3/6"},
			{"registered again", func() error { return b.AddRoutes(ctx, "n1", []registry.ChannelRoute{{"#42", 9}}) }, "n1/9 n2/5 n3/6"},
			{"an older one, late", func() error { return b.AddRoutes(ctx, "n1", []registry.ChannelRoute{{"#42", 8}}) }, "n1/9 n2/5 n3/6"},
			{"an older one, late, with a read", func() error {
				_, err := b.RegisterAndRead(ctx, "n2", 4, registry.LogQuery{Channel: "#42"})
				return err
			}, "n1/9 n2/5 n3/6"},
			{"a newer one, with a read", func() error {
				_, err := b.RegisterAndRead(ctx, "n2", 7, registry.LogQuery{Channel: "#42"})
				return err
			}, "n1/9 n2/7 n3/6"},
			{"a newer one, with the last", func() error {
				_, err := b.RegisterAndLast(ctx, "n3", 8, "#42")
				return err
			}, "n1/9 n2/7 n3/8"},
			{"old registration removed", func() error { return b.RemoveRoutes(ctx, "n1", []registry.ChannelRoute{{"#42", 1}}) }, "n1/9 n2/7 n3/8"},
			{"right one removed", func() error { return b.RemoveRoutes(ctx, "n1", []registry.ChannelRoute{{"#42", 9}}) }, "n2/7 n3/8"},
			{"removed twice", func() error { return b.RemoveRoutes(ctx, "n1", []registry.ChannelRoute{{"#42", 9}}) }, "n2/7 n3/8"},
			{"rest removed", func() error {
				if err := b.RemoveRoutes(ctx, "n2", []registry.ChannelRoute{{"#42", 7}, {"none", 1}}); err != nil {
					return err
				}
				return b.RemoveRoutes(ctx, "n3", []registry.ChannelRoute{{"#42", 8}})
			}, ""},
		}
		for _, st := range steps {
			if err := st.do(); err != nil {
				t.Fatalf("%s: %v", st.name, err)
			}
			if got := routes(); got != st.want {
				t.Errorf("%s: routes %q, want %q", st.name, got, st.want)
			}
		}
	})
}

// TestRoutesExpire proves that what a node leaves behind vanishes, however its
// routes were written.
func TestRoutesExpire(t *testing.T) {
	tests := map[string]func(ctx context.Context, b bench) error{
		"added": func(ctx context.Context, b bench) error {
			return b.AddRoutes(ctx, "n1", []registry.ChannelRoute{{"#42", 1}})
		},
		"with a read": func(ctx context.Context, b bench) error {
			_, err := b.RegisterAndRead(ctx, "n1", 1, registry.LogQuery{Channel: "#42"})
			return err
		},
		"with the last": func(ctx context.Context, b bench) error {
			_, err := b.RegisterAndLast(ctx, "n1", 1, "#42")
			return err
		},
	}
	for name, write := range tests {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *registrytest.Server) {
				b := newBench(t, s, registry.Config{Keep: time.Hour})
				for _, again := range []bool{false, true} {
					if err := write(t.Context(), b); err != nil {
						t.Fatal(err)
					}
					left, err := registrytest.Do(s.Addr(), "PTTL", "push:{#42}:routes")
					ms, _ := strconv.Atoi(strings.TrimPrefix(left, ":"))
					if err != nil || ms < 3_500_000 || ms > 3_600_000 {
						t.Errorf("again %v: the route lives for %q ms, %v, want an hour", again, left, err)
					}
					if _, err := registrytest.Do(s.Addr(), "PERSIST", "push:{#42}:routes"); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

func TestManyRoutes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{})
		var routes []registry.ChannelRoute
		for i := range 700 {
			routes = append(routes, registry.ChannelRoute{Channel: push.Channel(fmt.Sprint("c", i)), Registration: int64(i + 1)})
		}
		if err := b.AddRoutes(t.Context(), "n1", routes); err != nil {
			t.Fatal(err)
		}
		if got := b.add(t, "c699", "m").Routes; len(got) != 1 || got[0].Registration != 700 {
			t.Errorf("the last of 700 routes = %v", got)
		}
		if err := b.RemoveRoutes(t.Context(), "n1", routes); err != nil {
			t.Fatal(err)
		}
		if got := b.add(t, "c350", "m").Routes; len(got) != 0 {
			t.Errorf("a removed route is still there: %v", got)
		}
	})
}
