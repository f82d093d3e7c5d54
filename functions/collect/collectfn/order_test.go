package collectfn

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/handoff"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// to returns a message of an id for users, as it is posted.
func to(id string, users ...string) string {
	list, err := json.Marshal(users)
	if err != nil {
		panic(err) // strings can be encoded
	}
	return fmt.Sprintf(`{"id":%q,"to":{"users":%s},"data":1}`, id, list)
}

// waits returns the ids of what is due in the outbox in their order, each with "!" if it was
// tried.
func (r *rig) waits() string {
	r.t.Helper()
	var list []string
	for _, e := range r.outbox() {
		if e.DueAt.After(start) {
			continue // scheduled
		}
		id := strings.TrimPrefix(string(e.Message), "shop/")
		if e.Attempts > 0 {
			id += "!"
		}
		if len(e.Channels) == 0 || e.Sequence == 0 {
			r.t.Errorf("%s waits in no order: %+v", id, e)
		}
		list = append(list, id)
	}
	return strings.Join(list, " ")
}

// handed returns the ids that Dispatch was asked for since the last call.
func (r *rig) handed() string {
	ids, _ := r.handedOff()
	var list []string
	for _, id := range ids {
		list = append(list, strings.TrimPrefix(string(id), "shop/"))
	}
	return strings.Join(list, " ")
}

// TestNothingOvertakesTheOutbox posts one request after another to a Dispatch
// that does not confirm "f…".
func TestNothingOvertakesTheOutbox(t *testing.T) {
	tests := map[string]struct {
		posts  []string
		handed string
		waits  string
	}{
		"nothing waits":                {[]string{to("a", "1"), to("b", "1")}, "a b", ""},
		"behind a failure":             {[]string{to("f", "1"), to("b", "1")}, "f", "f! b"},
		"other channels pass":          {[]string{to("f", "1"), to("b", "2")}, "f b", "f!"},
		"behind what is behind":        {[]string{to("f", "1"), to("b", "1", "2"), to("c", "2"), to("d", "3")}, "f d", "f! b c"},
		"a topic is not its users":     {[]string{to("f", "1"), `{"id":"b","to":{"all":true,"channels":["1"]},"data":1}`}, "f b", "f!"},
		"everybody":                    {[]string{`{"id":"f","to":{"all":true},"data":1}`, to("b", "1"), `{"id":"c","to":{"all":true},"data":1}`}, "f b", "f! c"},
		"in an array":                  {[]string{to("f", "1"), "[" + to("b", "1") + "," + to("c", "2") + "," + to("d", "1", "3") + "," + to("e", "3") + "]"}, "f c", "f! b d e"},
		"an array before and behind":   {[]string{to("f1", "1"), "[" + to("f2", "2") + "," + to("b", "1", "2") + "," + to("f3", "3") + "]"}, "f1 f2 f3", "f1! f2! b f3!"},
		"sent again while it waits":    {[]string{to("f", "1"), to("b", "1"), to("f", "1")}, "f", "f! b"},
		"sent again when it went out":  {[]string{to("a", "1"), to("f", "1"), to("a", "1")}, "a f", "f! a"},
		"a scheduled one has no order": {[]string{to("f", "1"), `{"id":"s","to":{"users":["1"]},"data":1,"deliver_at":"2030-02-01T00:00:00Z"}`, to("b", "2")}, "f b", "f!"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.set(func() {
				for _, id := range []push.MessageID{"shop/f", "shop/f1", "shop/f2", "shop/f3"} {
					r.refuse[id] = true
				}
			})
			for _, body := range tt.posts {
				if w := r.post(body); w.Code != 202 || strings.Contains(w.Body.String(), "code") {
					t.Fatalf("POST %s = %d %s, want it accepted", body, w.Code, w.Body)
				}
			}
			if got := r.handed(); got != tt.handed {
				t.Errorf("handed off %q, want %q", got, tt.handed)
			}
			if got := r.waits(); got != tt.waits {
				t.Errorf("in the outbox there are %q, want %q", got, tt.waits)
			}
		})
	}
}

func TestDetourEndsWithTheBacklog(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.refuse["shop/f"] = true })
	r.post(to("f", "1"))
	r.post(to("b", "1"))
	if err := r.store.ConfirmOutbox(t.Context(), []push.MessageID{"shop/f"}); err != nil {
		t.Fatal(err)
	}
	r.post(to("c", "1"))
	if err := r.store.ConfirmOutbox(t.Context(), []push.MessageID{"shop/b", "shop/c"}); err != nil {
		t.Fatal(err)
	}
	r.post(to("d", "1"))
	if got := r.handed(); got != "f d" {
		t.Errorf("handed off %q, want f, and d when nothing waits any more", got)
	}
}

// A blindStore is a real store that cannot tell of its backlog.
type blindStore struct {
	Store
	any, channels bool
}

func (s blindStore) AnyBacklog(ctx context.Context) (bool, error) {
	if s.any {
		return false, store.ErrUnavailable
	}
	return s.Store.AnyBacklog(ctx)
}

func (s blindStore) Backlog(ctx context.Context, channels []push.Channel) (map[push.Channel]bool, error) {
	if s.channels {
		return nil, store.ErrUnavailable
	}
	return s.Store.Backlog(ctx, channels)
}

func TestUnknownBacklog(t *testing.T) {
	for name, blind := range map[string]blindStore{"whether any": {any: true}, "for whom": {channels: true}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.set(func() { r.refuse["shop/f"] = true })
			r.post(to("f", "1"))
			r.handed()
			blind.Store = r.collect.store
			r.collect.store = blind
			if w := r.post("[" + to("a", "1") + "," + to("b", "2") + "]"); w.Code != 202 {
				t.Errorf("answer = %d %s, want 202", w.Code, w.Body)
			}
			if got := r.handed(); got != "" {
				t.Errorf("handed off %q, though it may overtake", got)
			}
			if got := r.waits(); got != "f! a b" {
				t.Errorf("in the outbox there are %q, want all in their order", got)
			}
		})
	}
}

// A queue is a hand-off that keeps no order.
type queue struct{ Handoff }

func (queue) Ordered() bool { return false }

func TestQueueKeepsNoOrder(t *testing.T) {
	r := newRig(t)
	r.collect.handoff = queue{r.collect.handoff}
	r.collect.store = blindStore{r.collect.store, true, true} // it is not even asked
	r.set(func() { r.refuse["shop/f"] = true })
	r.post(to("f", "1"))
	r.post(to("b", "1"))
	if got := r.handed(); got != "f b" {
		t.Errorf("handed off %q, want both", got)
	}
}

func TestBreakWhileDispatchIsAway(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.down = true })
	r.post(to("a", "1"))
	r.set(func() { r.down = false })
	r.post(to("b", "2"))
	if got := r.handed(); got != "" {
		t.Errorf("handed off %q right after Dispatch was away", got)
	}
	r.set(func() { r.clock = r.clock.Add(breakTime) })
	r.post(to("c", "3"))
	r.post(to("d", "4"))
	r.post(to("e", "2"))
	if got := r.handed(); got != "c d" {
		t.Errorf("after the break %q is handed off, want c and d, and e behind b", got)
	}
	if got := r.waits(); got != "a! b e" {
		t.Errorf("in the outbox there are %q", got)
	}
	// That a message is refused is an answer.
	r.set(func() { r.refuse["shop/f"] = true })
	r.post(to("f", "5"))
	r.post(to("g", "6"))
	if got := r.handed(); got != "f g" {
		t.Errorf("after a refusal %q is handed off, want f g", got)
	}
}

// A failing is a hand-off of which nothing is confirmed, for one reason.
type failing struct {
	Handoff
	err error
}

func (f failing) HandOff(_ context.Context, messages []push.Message, _ bool) []error {
	return slices.Repeat([]error{f.err}, len(messages))
}

// One sender's array that is too wide to be done in time is no reason for the
// messages of others to take the detour.
func TestWideHandOffIsNoReasonToBreak(t *testing.T) {
	wide := make([]string, widePlaces/2)
	for i := range wide {
		wide[i] = fmt.Sprint("w", i)
	}
	tests := map[string]struct {
		post   string
		err    error
		handed string // of a post to another channel right behind it
	}{
		"wide, out of time":   {"[" + to("a", wide...) + "," + to("b", wide...) + "]", handoff.ErrTimeout, "c"},
		"wide, unreachable":   {"[" + to("a", wide...) + "," + to("b", wide...) + "]", handoff.ErrUnreachable, ""},
		"narrow, out of time": {to("a", "1"), handoff.ErrTimeout, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			whole := r.collect.handoff
			r.collect.handoff = failing{whole, tt.err}
			if w := r.post(tt.post); w.Code != 202 {
				t.Fatalf("answer = %d %.200s, want 202", w.Code, w.Body)
			}
			r.collect.handoff = whole
			r.post(to("c", "2"))
			if got := r.handed(); got != tt.handed {
				t.Errorf("behind %v %q is handed off, want %q", tt.err, got, tt.handed)
			}
		})
	}
}

// An item that the queue does not take says neither that Dispatch is there nor that
// it is away.
func TestItemThatIsNotTakenTellsNothingOfDispatch(t *testing.T) {
	for name, broken := range map[string]bool{"away": true, "there": false} {
		t.Run(name, func(t *testing.T) {
			h := newRig(t).collect
			now := time.Now()
			h.cfg.Now = func() time.Time { return now }
			h.breaker.note(now, broken)
			h.handoff = failing{h.handoff, handoff.ErrItem}
			h.handOff(t.Context(), []push.Message{{ID: "m", To: push.Recipients{Users: []push.UserID{"1"}}}}, false)
			if got := h.breaker.admits(now); got == broken {
				t.Errorf("afterwards the next is admitted: %v, want %v", got, !broken)
			}
		})
	}
}

func TestBreaker(t *testing.T) {
	now := time.Now()
	at := func(tenths int) time.Time { return now.Add(time.Duration(tenths) * breakTime / 10) }
	var b breaker
	for i, step := range []struct {
		at    int
		noted string // "" asks whether it admits
		want  bool
	}{
		{0, "", true}, {0, "", true}, {1, "ok", false}, {2, "", true},
		{3, "broken", false}, {12, "", false}, {13, "", true}, {14, "", false}, {22, "", false}, {23, "", true}, // one a second tries
		{24, "broken", false}, {33, "", false}, {34, "", true}, {35, "ok", false}, {35, "", true}, {35, "", true},
	} {
		if step.noted != "" {
			b.note(at(step.at), step.noted == "broken")
		} else if got := b.admits(at(step.at)); got != step.want {
			t.Errorf("step %d: admits = %v, want %v", i, got, step.want)
		}
	}
}

// TestLook has many ask while a question is under way: they share the next one,
// and nobody gets an answer to a question that was put before they asked.
func TestLook(t *testing.T) {
	var l look
	put, answer := make(chan int), make(chan bool)
	asked := 0
	ask := func(context.Context) (bool, error) {
		asked++
		put <- asked
		return <-answer, nil
	}
	first := l.join(ask)
	<-put
	var later []*glance
	for range 5 {
		later = append(later, l.join(ask))
	}
	answer <- false
	<-first.done
	<-put
	last := l.join(ask)
	answer <- true
	<-later[0].done
	<-put
	answer <- false
	<-last.done
	if first.any || last.any || !later[0].any || asked != 3 {
		t.Errorf("answers %v, %v, %v to %d questions", first.any, later[0].any, last.any, asked)
	}
	if slices.ContainsFunc(later, func(g *glance) bool { return g != later[0] }) {
		t.Error("those who asked meanwhile do not share one answer")
	}
}
