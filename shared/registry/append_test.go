package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

func TestAppend(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{})
		term := b.term(t)
		if err := b.AddRoutes(t.Context(), "n1", []registry.ChannelRoute{{Channel: "#42", Registration: 7}}); err != nil {
			t.Fatal(err)
		}
		first := b.add(t, "#42", "m1")
		if first.Offset <= term.Floor || first.Offset >= b.term(t).Ceiling {
			t.Errorf("offset %d is not between floor %d and ceiling %d", first.Offset, term.Floor, b.term(t).Ceiling)
		}
		if first.Prev != 0 || first.Repeat || first.Ask {
			t.Errorf("first append = %+v, want a new one without predecessor", first)
		}
		if want := []registry.Route{{Node: "n1", Registration: 7}}; !slices.Equal(first.Routes, want) {
			t.Errorf("routes = %v, want %v", first.Routes, want)
		}
		second := b.add(t, "#42", "m2")
		if second.Offset <= first.Offset || second.Prev != first.Offset {
			t.Errorf("second append = %+v, want it after %d", second, first.Offset)
		}
		again := b.append(t, registry.Item{Channel: "#42", Message: message("m2"), Again: true}).Items[0]
		if !again.Repeat || again.Offset != second.Offset || again.Prev != first.Offset || len(again.Routes) != 1 {
			t.Errorf("append of m2 again = %+v, want a repeat of %+v", again, second)
		}
		other := b.add(t, "news", "m2")
		if other.Repeat || other.Prev != 0 {
			t.Errorf("append of m2 to another channel = %+v, want a new one", other)
		}
	})
}

// A caller may leave while its commands wait in a lane. They are sent all the
// same, and the next append finds what they did.
func TestAppendLeftAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{})
		b.term(t)
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				ctx, leave := context.WithCancel(t.Context())
				time.AfterFunc(time.Duration(i)*5*time.Microsecond, leave)
				item := registry.Item{Channel: "#42", Message: message(fmt.Sprint("m", i))}
				if _, err := b.Append(ctx, []registry.Item{item}); err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("Append: %v, want %v or none", err, context.Canceled)
				}
			})
		}
		wg.Wait()
		first := b.add(t, "#42", "m0")
		if again := b.add(t, "#42", "m0"); !again.Repeat || again.Offset != first.Offset {
			t.Errorf("append of m0 again = %+v, want a repeat of %+v", again, first)
		}
	})
}

func TestAppendManyAtOnceKeepsOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{})
		var items []registry.Item
		for i := range 50 {
			items = append(items, registry.Item{Channel: "room:7", Message: message(fmt.Sprint("m", i))})
		}
		got := b.append(t, items...)
		for i := 1; i < len(got.Items); i++ {
			if got.Items[i].Prev != got.Items[i-1].Offset {
				t.Fatalf("item %d has predecessor %d, want %d", i, got.Items[i].Prev, got.Items[i-1].Offset)
			}
		}
		if p := b.read(t, registry.LogQuery{Channel: "room:7"}); len(p.Entries) != 50 {
			t.Errorf("the log holds %d entries, want 50", len(p.Entries))
		}
	})
}

func TestAppendAsks(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{})
		b.term(t)
		s.FlushAll() // the second term: messages of before it are older than it
		term := b.term(t)
		old, fresh := message("old"), message("fresh")
		old.CreatedAt = term.Floor.Time().Add(-time.Hour)
		fresh.CreatedAt = term.Floor.Time().Add(2 * time.Minute)
		tests := map[string]struct {
			item registry.Item
			want registry.AppendedItem
		}{
			"first attempt": {registry.Item{Message: fresh}, registry.AppendedItem{}},
			"again":         {registry.Item{Message: fresh, Again: true}, registry.AppendedItem{Ask: true}},
			"older":         {registry.Item{Message: old}, registry.AppendedItem{Ask: true}},
			"again, asked":  {registry.Item{Message: fresh, Again: true, Asked: true}, registry.AppendedItem{}},
			"older, asked":  {registry.Item{Message: old, Asked: true}, registry.AppendedItem{}},
			"placed": {registry.Item{Message: old, Asked: true, Placed: 12345},
				registry.AppendedItem{Offset: 12345, Repeat: true}},
		}
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				tt.item.Channel = push.Channel(name)
				if err := b.AddRoutes(t.Context(), "n1", []registry.ChannelRoute{{Channel: tt.item.Channel, Registration: 1}}); err != nil {
					t.Fatal(err)
				}
				got := b.append(t, tt.item).Items[0]
				if got.Ask != tt.want.Ask || got.Repeat != tt.want.Repeat || tt.want.Offset != 0 && got.Offset != tt.want.Offset {
					t.Errorf("Append(%s) = %+v, want %+v", name, got, tt.want)
				}
				if !got.Ask && len(got.Routes) != 1 {
					t.Errorf("Append(%s) returned %d routes, want 1", name, len(got.Routes))
				}
				entries := b.read(t, registry.LogQuery{Channel: tt.item.Channel}).Entries
				if appended := len(entries) == 1; appended != (!got.Ask && !got.Repeat) {
					t.Errorf("Append(%s) left %d entries in the log", name, len(entries))
				}
			})
		}
	})
}

func TestLogIsBounded(t *testing.T) {
	big := strings.Repeat("x", 1000)
	tests := map[string]struct {
		cfg  registry.Config
		want int // entries that stay of 40 with 1,000 bytes of data
	}{
		"by count": {registry.Config{MaxEntries: 10, Young: 1}, 10},
		"by bytes": {registry.Config{MaxBytes: 12_500, Young: 1}, 10},
		"by both":  {registry.Config{MaxEntries: 20, MaxBytes: 12_500, Young: 1}, 10},
		"not":      {registry.Config{}, 40},

		"young by count":     {registry.Config{MaxEntries: 10}, 40},
		"young by bytes":     {registry.Config{MaxBytes: 12_500}, 40},
		"young and too many": {registry.Config{MaxEntries: 4}, 31},
		"young and too much": {registry.Config{MaxBytes: 5_000}, 34},
	}
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				b := newBench(t, s, tt.cfg)
				s.FlushAll()
				var items []registry.Item
				for i := range 40 {
					m := message(fmt.Sprintf("m%02d", i))
					m.Data = []byte(`"` + big + `"`)
					items = append(items, registry.Item{Channel: "c", Message: m, Asked: true})
				}
				places := b.append(t, items...)
				page := b.read(t, registry.LogQuery{Channel: "c", MaxBytes: 1 << 20})
				if len(page.Entries) != tt.want {
					t.Fatalf("the log holds %d entries, want %d", len(page.Entries), tt.want)
				}
				if last := page.Entries[len(page.Entries)-1]; last.Message.ID != "m39" {
					t.Errorf("the newest entry is %s, want m39", last.Message.ID)
				}
				gone := b.append(t, items[0]).Items[0]
				if wasKept := tt.want == 40; gone.Repeat != wasKept || (gone.Offset == places.Items[0].Offset) != wasKept {
					t.Errorf("the oldest again = %+v, first at %d; is it kept: %v", gone, places.Items[0].Offset, wasKept)
				}
			})
		}
	})
}

// What is appended in one go is all in the log while nobody may know of it
// otherwise, and within the log's bounds later.
func TestYoungMessagesStay(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		terms := &registrytest.Terms{}
		var b bench
		var before registry.AppendedItem
		channel := push.Channel("c")
		for young := time.Second; ; young *= 2 {
			b = bench{open(t, s, terms, registry.Config{MaxEntries: 10, Young: young}), s, terms}
			before = b.asked(t, channel, "before")
			var items []registry.Item
			for i := range 50 {
				items = append(items, registry.Item{Channel: channel, Message: message(fmt.Sprint("m", i)), Asked: true})
			}
			began := time.Now()
			b.append(t, items...)
			page := b.read(t, registry.LogQuery{Channel: channel, After: before.Offset})
			if page.ReachesBack && len(page.Entries) == 50 {
				break
			}
			if time.Since(began) < young {
				t.Fatalf("of 50 messages the log holds %d, and reaches back: %v", len(page.Entries), page.ReachesBack)
			}
			channel += "c" // they are young no more: the machine stood still
		}
		later := 0
		eventually(t, func() error {
			b.asked(t, channel, fmt.Sprint("later", later))
			later++
			if page := b.read(t, registry.LogQuery{Channel: channel, After: before.Offset}); page.Entries[0].Message.ID == "m0" {
				return fmt.Errorf("the log holds all of %d still", len(page.Entries))
			}
			return nil
		})
	})
}

func TestAgedOutLogKeepsItsEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{MaxAge: 50 * time.Millisecond})
		first := b.add(t, "#42", "m1")
		eventually(t, func() error {
			if n := len(b.read(t, registry.LogQuery{Channel: "#42"}).Entries); n > 0 {
				return fmt.Errorf("the log still holds %d", n)
			}
			return nil
		})
		page := b.read(t, registry.LogQuery{Channel: "#42", After: first.Offset})
		if !page.ReachesBack || page.Last != first.Offset {
			t.Errorf("read after the only message = %+v, want it to reach back", page)
		}
		if page := b.read(t, registry.LogQuery{Channel: "#42", After: first.Offset - 1}); page.ReachesBack {
			t.Errorf("read before the only message = %+v, want it not to reach back", page)
		}
		if second := b.add(t, "#42", "m2"); second.Prev != first.Offset {
			t.Errorf("the next message has predecessor %d, want %d", second.Prev, first.Offset)
		}
	})
}

func TestSpreadMessageIsAReference(t *testing.T) {
	b := newBench(t, registrytest.Redis(t), registry.Config{MaxSpread: 100})
	m := message("m1")
	b.append(t, registry.Item{Channel: "a", Message: m})
	var items []registry.Item
	for i := range 20 {
		items = append(items, registry.Item{Channel: push.Channel(fmt.Sprint("c", i)), Message: m})
	}
	b.append(t, items...)
	if e := b.read(t, registry.LogQuery{Channel: "a"}).Entries; len(e) != 1 || string(e[0].Message.Data) != string(m.Data) {
		t.Errorf("one channel's entry = %+v, want its data", e)
	}
	if e := b.read(t, registry.LogQuery{Channel: "c3"}).Entries; len(e) != 1 || len(e[0].Message.Data) != 0 || e[0].Message.ID != "m1" {
		t.Errorf("an entry of 20 = %+v, want it without data", e)
	}
	if len(m.To.Users) != 1 || len(m.Data) == 0 {
		t.Errorf("Append changed the message: %+v", m)
	}
}

func TestAppendReportsWhatOneChannelDid(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{})
		if _, err := registrytest.Do(s.Addr(), "SET", "push:{bad}:log", "no stream"); err != nil {
			t.Fatal(err)
		}
		a, err := b.Append(t.Context(), []registry.Item{
			{Channel: "bad", Message: message("m1")}, {Channel: "good", Message: message("m1")}})
		if err != nil {
			t.Fatal(err)
		}
		if a.Items[0].Err == nil || a.Items[1].Err != nil || a.Items[1].Offset == 0 {
			t.Errorf("Append to a broken and a sound channel = %+v", a.Items)
		}
	})
}

// What many messages to one channel cost Redis does not grow with its routes.
func TestRoutesOfAChannelAreReadOnce(t *testing.T) {
	s := registrytest.Redis(t)
	if s.Mini() != nil {
		t.Skip("a miniredis does not count commands")
	}
	b := newBench(t, s, registry.Config{})
	nodes := []push.NodeID{"127.0.0.1:1~a", "127.0.0.1:2~b"}
	for _, n := range nodes {
		if err := b.AddRoutes(t.Context(), n, []registry.ChannelRoute{{Channel: push.All, Registration: 7}}); err != nil {
			t.Fatal(err)
		}
	}
	b.add(t, "#41", "m") // from here on Redis knows the script
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer func() { _ = rdb.Close() }()
	if err := rdb.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	items := []registry.Item{{Channel: "#42", Message: message("m")}}
	for i := range 50 {
		items = append(items, registry.Item{Channel: push.All, Message: message(fmt.Sprint("m", i))})
	}
	got := b.append(t, items...)
	if len(got.Items[0].Routes) != 0 {
		t.Errorf("a channel without routes has %v", got.Items[0].Routes)
	}
	for i, it := range got.Items[1:] {
		if len(it.Routes) != len(nodes) || it.Routes[0].Registration != 7 {
			t.Fatalf("item %d has the routes %v, want both nodes'", i, it.Routes)
		}
	}
	stats, err := rdb.Info(t.Context(), "commandstats").Result()
	if err != nil || !strings.Contains(stats, "cmdstat_hgetall:calls=2,") {
		t.Errorf("%v: want two reads of routes for two channels in\n%s", err, stats)
	}
}

func TestAppendWithoutRedis(t *testing.T) {
	s := registrytest.Redis(t)
	b := newBench(t, s, registry.Config{})
	b.add(t, "c", "m1")
	s.Stop()
	if a, err := b.Append(t.Context(), []registry.Item{{Channel: "c", Message: message("m2")}}); err == nil {
		t.Errorf("Append without Redis = %+v, want an error", a)
	}
	s.Start()
	eventually(t, func() error {
		_, err := b.Append(t.Context(), []registry.Item{{Channel: "c", Message: message("m2"), Asked: true}})
		return err
	})
}

func TestAppendAbove(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{})
		first := b.add(t, "c", "m1")
		next := b.append(t, registry.Item{Channel: "c", Message: message("m1"), Asked: true, Above: first.Offset}).Items[0]
		if next.Repeat || next.Offset <= first.Offset || next.Prev != first.Offset {
			t.Errorf("append above %d = %+v, want a new place", first.Offset, next)
		}
		far := b.append(t, registry.Item{Channel: "c", Message: message("m2"), Asked: true, Above: next.Offset + 5}).Items[0]
		if far.Offset <= next.Offset+5 {
			t.Errorf("append above %d = %+v", next.Offset+5, far)
		}
	})
}

// What comes after a message that must be asked about does not overtake it.
func TestAppendDoesNotOvertakeWhatAsks(t *testing.T) {
	b := newBench(t, registrytest.Redis(t), registry.Config{})
	a := b.append(t,
		registry.Item{Channel: "c", Message: message("m1"), Again: true},
		registry.Item{Channel: "c", Message: message("m2")},
		registry.Item{Channel: "d", Message: message("m2")})
	if !a.Items[0].Ask || !a.Items[1].Ask || a.Items[2].Ask {
		t.Errorf("Append = %+v, want the items of c to ask and that of d not", a.Items)
	}
}

// What is remembered of a log's messages is bounded with it, and is made again
// from the log where Redis evicted it, and forgotten where it evicted the log.
func TestWhatIsSeenFollowsTheLog(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{MaxEntries: 20, Young: 1})
		var last registry.AppendedItem
		for i := range 50 {
			last = b.asked(t, "c", fmt.Sprint("m", i))
		}
		holds := func(most int) {
			t.Helper()
			entries, err1 := registrytest.Do(s.Addr(), "XLEN", "push:{c}:log")
			seen, err2 := registrytest.Do(s.Addr(), "HLEN", "push:{c}:seen")
			var n, m int
			_, err3 := fmt.Sscanf(entries+" "+seen, ":%d :%d", &n, &m)
			if err := errors.Join(err1, err2, err3); err != nil || n > most || m != n+1 {
				t.Errorf("the log holds %d, of which %d are seen, %v, want at most %d and one more for its state", n, m, err, most)
			}
		}
		holds(20)
		del := func(key string) {
			if _, err := registrytest.Do(s.Addr(), "DEL", key); err != nil {
				t.Fatal(err)
			}
		}
		del("push:{c}:seen")
		next := b.asked(t, "c", "m50")
		if next.Prev != last.Offset {
			t.Errorf("after an eviction the predecessor is %d, want %d", next.Prev, last.Offset)
		}
		holds(20)
		if again := b.append(t, registry.Item{Channel: "c", Message: message("m49"), Again: true}).Items[0]; again.Offset != last.Offset {
			t.Errorf("m49 again = %+v, want it at %d", again, last.Offset)
		}
		del("push:{c}:log")
		for i := range 21 {
			next = b.asked(t, "c", fmt.Sprint("n", i))
		}
		holds(20)
		if p := b.read(t, registry.LogQuery{Channel: "c", After: last.Offset}); len(p.Entries) == 0 || p.Last != next.Offset {
			t.Errorf("after the log's eviction a read returned %+v", p)
		}
	})
}

// A clock that stands still for more than 2,048 messages gives them offsets of
// the time to come.
func TestManyInOneMillisecond(t *testing.T) {
	s := registrytest.Mini(t)
	b := newBench(t, s, registry.Config{})
	s.Mini().SetTime(time.Now())
	var items []registry.Item
	for i := range 2*push.OffsetsPerMilli + 10 {
		items = append(items, registry.Item{Channel: "c", Message: message(fmt.Sprint("m", i)), Asked: true})
	}
	got := b.append(t, items...)
	for i := 1; i < len(got.Items); i++ {
		if got.Items[i].Prev != got.Items[i-1].Offset || got.Items[i].Offset <= got.Items[i].Prev {
			t.Fatalf("item %d = %+v after %+v", i, got.Items[i], got.Items[i-1])
		}
	}
}

// What comes behind a message that Redis refused is refused, too, whatever its
// id; what has its place keeps it.
func TestAppendBehindWhatFailed(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		b := newBench(t, s, registry.Config{})
		for _, id := range []string{"m1", "m2", "of two words", `100%\n"`, "0"} {
			item := registry.Item{Channel: "#42", Message: message(id)}
			got, err := b.AppendAfter(t.Context(), item, "refused")
			if err != nil || got.Err == nil || got.Offset != 0 {
				t.Errorf("%s behind what is not there = %+v, %v, want it refused", id, got, err)
			}
			if p := b.read(t, registry.LogQuery{Channel: "#42"}); len(p.Entries) != 0 {
				t.Fatalf("the log has %d entries, want none", len(p.Entries))
			}
		}
		last := ""
		for _, id := range []string{"of two words", "0", `100%\n"`, "m"} {
			if last == "" {
				b.add(t, "#42", id)
			} else if got, err := b.AppendAfter(t.Context(), registry.Item{Channel: "#42", Message: message(id)}, push.MessageID(last)); err != nil || got.Err != nil {
				t.Errorf("%s behind %s = %+v, %v", id, last, got, err)
			}
			last = id
		}
		got, err := b.AppendAfter(t.Context(), registry.Item{Channel: "#42", Message: message("m"), Again: true}, "refused")
		if err != nil || got.Err != nil || !got.Repeat {
			t.Errorf("a repeat behind what was refused = %+v, %v, want its place", got, err)
		}
	})
}
