package chaos

import (
	"testing"
	"time"
)

// An arrival is one publication at a client.
type arrival struct {
	n      uint32
	offset uint64
	conn   uint32
}

func TestLedger(t *testing.T) {
	const messages = 3 // accepted before anything arrives, all for the client
	tests := map[string]struct {
		arrivals []arrival
		reload   int    // before this arrival the page is loaded again; 0: never
		cursor   uint64 // that was recorded by then
		want     tally
	}{
		"all, in order":         {arrivals: []arrival{{0, 10, 1}, {1, 20, 1}, {2, 30, 1}}, want: tally{received: 3}},
		"nothing":               {want: tally{lost: 3}},
		"one missing":           {arrivals: []arrival{{0, 10, 1}, {2, 30, 1}}, want: tally{received: 2, lost: 1}},
		"over a reconnect":      {arrivals: []arrival{{0, 10, 1}, {1, 20, 2}, {2, 30, 2}}, want: tally{received: 3}},
		"twice on a connection": {arrivals: []arrival{{0, 10, 1}, {0, 10, 1}, {1, 20, 1}, {2, 30, 1}}, want: tally{received: 3, repeated: 1}},
		"below the position":    {arrivals: []arrival{{0, 10, 1}, {1, 20, 1}, {1, 20, 2}, {2, 30, 2}}, want: tally{received: 3, repeated: 1}},
		"at a new place":        {arrivals: []arrival{{0, 10, 1}, {1, 20, 1}, {0, 30, 1}, {2, 40, 1}}, want: tally{received: 3, moved: 1}},
		"out of order":          {arrivals: []arrival{{1, 20, 1}, {0, 10, 1}, {2, 30, 1}}, want: tally{received: 3, reordered: 1}},
		"late, on another connection": {arrivals: []arrival{{1, 20, 1}, {0, 10, 2}, {2, 30, 2}},
			want: tally{received: 3, reordered: 1}},
		"replayed after a reload": {arrivals: []arrival{{0, 10, 1}, {1, 20, 1}, {1, 20, 2}, {2, 30, 2}}, reload: 2, cursor: 10,
			want: tally{received: 3, replayed: 1}},
		"replayed below the cursor": {arrivals: []arrival{{0, 10, 1}, {1, 20, 1}, {1, 20, 2}, {2, 30, 2}}, reload: 2, cursor: 20,
			want: tally{received: 3, repeated: 1}},
		"replayed twice": {arrivals: []arrival{{0, 10, 1}, {0, 10, 2}, {0, 20, 2}, {1, 30, 2}, {2, 40, 2}}, reload: 1,
			want: tally{received: 3, replayed: 1, moved: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			f := l.follow("news", "client")
			for range messages {
				l.accept(l.begin(&message{channels: []string{"news"}}))
			}
			for i, a := range tt.arrivals {
				if tt.reload > 0 && i == tt.reload {
					f.reload(tt.cursor)
				}
				f.take(a.n, a.offset, a.conn)
			}
			tt.want.accepted, tt.want.expected = messages, messages
			if got := l.tally(); got != tt.want {
				t.Errorf("tally of %v = %+v, want %+v", tt.arrivals, got, tt.want)
			}
			if got := l.missing(); got != tt.want.lost {
				t.Errorf("missing = %d, want %d", got, tt.want.lost)
			}
		})
	}
}

func TestLedgerOwes(t *testing.T) {
	now := time.Now()
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	tests := map[string]struct {
		message message
		since   time.Time
		away    []absence
		want    int
	}{
		"plain":                    {message{}, time.Time{}, nil, 1},
		"before it followed":       {message{}, now.Add(time.Hour), nil, 0},
		"expired while away":       {message{expires: at(5)}, time.Time{}, []absence{{at(-10), at(10)}}, 0},
		"expired while still away": {message{expires: at(5)}, time.Time{}, []absence{{at(-10), time.Time{}}}, 0},
		"back before it expired":   {message{expires: at(5)}, time.Time{}, []absence{{at(-10), at(4)}}, 1},
		"there all the time":       {message{expires: at(5)}, time.Time{}, nil, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			f := l.follow("news", "client")
			f.since, f.away = tt.since, tt.away
			tt.message.channels = []string{"news"}
			l.accept(l.begin(&tt.message))
			if got := l.missing(); got != tt.want {
				t.Errorf("owed = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestLedgerCollapses(t *testing.T) {
	l := newLedger()
	f := l.follow("#42", "client")
	for range 3 {
		l.accept(l.begin(&message{channels: []string{"#42"}, collapse: "score"}))
	}
	if got := l.missing(); got != 1 {
		t.Errorf("of three messages of one collapse key %d are owed, want 1", got)
	}
	f.take(2, 30, 1)
	if got := l.missing(); got != 0 {
		t.Errorf("after the newest %d are owed, want 0", got)
	}
}

func TestHeal(t *testing.T) {
	l := newLedger()
	f := l.follow("news", "client")
	for range 3 {
		l.accept(l.begin(&message{channels: []string{"news"}}))
	}
	begin := l.messages[0].accepted
	l.faults = []fault{{what: "test", begin: begin, end: begin.Add(10 * time.Second)}}
	for n, late := range []time.Duration{100 * time.Millisecond, 5 * time.Second, 13 * time.Second} {
		f.got[uint32(n)] = receipt{offset: uint64(n + 1), at: begin.Add(late)}
	}
	got := l.tally()
	want := 3 * time.Second // of the last one: 13 s, less the 10 s of the fault
	if diff := got.healMax - want; diff < -50*time.Millisecond || diff > 50*time.Millisecond || got.healP50 != got.healMax {
		t.Errorf("healed in %v, half of them in %v, want about %v", got.healMax, got.healP50, want)
	}
}

func TestOvertakings(t *testing.T) {
	now := time.Now()
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	type post struct {
		from, to int // posted and accepted, in ms; to 0: never accepted
		offset   uint64
	}
	tests := map[string]struct {
		posts []post
		want  int
	}{
		"one after another":            {[]post{{0, 1, 10}, {2, 3, 20}, {4, 5, 30}}, 0},
		"overtaken":                    {[]post{{0, 1, 20}, {2, 3, 10}}, 1},
		"both passed the first":        {[]post{{0, 1, 30}, {2, 3, 10}, {4, 5, 20}}, 1},
		"at the same time":             {[]post{{0, 3, 20}, {2, 5, 10}}, 0},
		"the first was never accepted": {[]post{{0, 0, 20}, {2, 3, 10}}, 0},
		"accepted long after":          {[]post{{0, 9, 30}, {2, 3, 10}, {4, 5, 20}}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			f := l.follow("news", "client")
			for _, p := range tt.posts {
				m := &message{channels: []string{"news"}}
				n := l.begin(m)
				m.posted = at(p.from)
				if p.to != 0 {
					m.accepted = at(p.to)
				}
				f.got[n] = receipt{offset: p.offset}
			}
			if got := l.overtakings(); got != tt.want {
				t.Errorf("overtakings of %v = %d, want %d", tt.posts, got, tt.want)
			}
		})
	}
}
