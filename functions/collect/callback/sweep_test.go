package callback

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

func users(names ...push.UserID) push.Recipients { return push.Recipients{Users: names} }

// TestTold follows a message to its recipients: each event of each is told once,
// in its order.
func TestTold(t *testing.T) {
	r := newRig(t)
	r.accept("shop/d.1/r", push.Recipients{Users: []push.UserID{"42", "7"}, Channels: []push.Channel{"news"}})
	steps := []struct {
		name string
		at   time.Duration
		do   func()
		want string
	}{
		{"too early to look", 0, func() {}, ""},
		{"on its way", time.Second, func() {}, ""},
		{"routed", 5 * time.Second, func() {
			r.place("shop/d.1/r", "#42", 100, "")
			r.place("shop/d.1/r", "#7", 200, "")
			r.place("shop/d.1/r", "news", 300, "")
			r.move("42", "phone", "#42", 99, 0)
			r.move("9", "web", "news", 299, 0)
		}, ""},
		{"one has it", 10 * time.Second, func() { r.move("42", "phone", "#42", 100, 0) }, "received #42"},
		{"nothing new", 20 * time.Second, func() { r.move("42", "tablet", "#42", 150, 0) }, ""},
		{"dealt with, and a topic's reader", time.Minute, func() {
			r.move("42", "tablet", "#42", 150, 150)
			r.move("9", "web", "news", 301, 0)
		}, "acknowledged #42, received news"},
		{"both at once", 10 * time.Minute, func() { r.move("7", "web", "#7", 200, 200) }, "received #7, acknowledged #7"},
		{"its time is over", time.Hour + expiryGrace, func() {}, ""},
		{"the last acknowledgement", time.Hour + 10*time.Minute, func() { r.move("9", "web", "news", 301, 301) }, "acknowledged news"},
		{"all is told", 48 * time.Hour, func() {}, ""},
	}
	ids := make(map[string]bool)
	for _, step := range steps {
		r.at(step.at)
		step.do()
		r.sweep()
		got := r.told()
		if names(got) != step.want {
			t.Errorf("%s: told %q, want %q", step.name, names(got), step.want)
		}
		for _, p := range got {
			if ids[p.id] || !strings.HasPrefix(p.id, "evt_") || len(p.id) != 36 {
				t.Errorf("%s: %s is told under the id %q", step.name, p.body.Type, p.id)
			}
			ids[p.id] = true
			d := p.body.Data
			if d.ID != "shop/d.1/r" || d.Source != "shop" || d.Event != "order.paid" || d.Device == "" || d.At.IsZero() || d.Offset == 0 || p.body.Timestamp.IsZero() {
				t.Errorf("%s: told %+v", step.name, p.body)
			}
		}
	}
	if got := testutil.ToFloat64(r.sweeper.metrics.callbacks.WithLabelValues("shop", outcomeTold)); got != 6 {
		t.Errorf("%v were counted as told, want 6", got)
	}
}

// TestExpired: what nobody got is told with the reason, and what was spared to a
// device was not received.
func TestExpired(t *testing.T) {
	r := newRig(t)
	tests := map[push.MessageID]struct {
		do   func(id push.MessageID, channel push.Channel)
		want string // the state, "" not told
	}{
		"never-placed": {func(push.MessageID, push.Channel) {}, "expired"},
		"nobody":       {func(id push.MessageID, c push.Channel) { r.place(id, c, 10, "") }, "expired"},
		"superseded": {func(id push.MessageID, c push.Channel) {
			r.place(id, c, 10, "k")
			r.place("another", c, 11, "k")
		}, "superseded"},
		"spared": {func(id push.MessageID, c push.Channel) {
			r.place(id, c, 10, "")
			user, _ := c.User()
			if err := r.store.Spare(t.Context(), []store.Spared{{User: user, Device: "d", Channel: c,
				Omission: store.Omission{First: 10, Last: 10, ExpiresAt: start.Add(time.Hour)}}}); err != nil {
				t.Fatal(err)
			}
			r.move(user, "d", c, 50, 50)
		}, "expired"},
		"parked": {func(id push.MessageID, _ push.Channel) {
			if err := r.store.PutOutbox(t.Context(), []store.OutboxEntry{{Message: id, DueAt: start}}); err != nil {
				t.Fatal(err)
			}
			if err := r.store.ParkOutbox(t.Context(), []store.ParkedEntry{{Message: id, At: start, Until: start.Add(48 * time.Hour)}}); err != nil {
				t.Fatal(err)
			}
		}, "parked"},
		"received": {func(id push.MessageID, c push.Channel) {
			r.place(id, c, 10, "")
			user, _ := c.User()
			r.move(user, "d", c, 10, 0)
		}, ""},
	}
	for id, tt := range tests {
		channel := push.Personal(push.UserID(id))
		r.accept(id, users(push.UserID(id)))
		tt.do(id, channel)
	}
	r.at(time.Second)
	r.sweep()
	if got := names(r.told()); got != "received #received" {
		t.Errorf("at first %q was told", got)
	}
	r.at(time.Hour + expiryGrace - time.Second)
	r.sweep()
	if got := r.told(); len(got) > 0 {
		t.Errorf("before their time was over %q was told", names(got))
	}
	// The inbox forgets its entries; what was seen of them is kept.
	if _, err := r.store.Sweep(t.Context(), start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	r.at(time.Hour + expiryGrace)
	r.sweep()
	states := make(map[push.MessageID]string)
	for _, p := range r.told() {
		states[p.body.Data.ID] = p.body.Data.State
		if p.body.Type != "message.expired" || string(p.body.Data.User) != string(p.body.Data.ID) || p.body.Data.Device != "" || !p.body.Data.At.Equal(start.Add(time.Hour)) {
			t.Errorf("told %+v", p.body)
		}
	}
	for id, tt := range tests {
		if states[id] != tt.want {
			t.Errorf("%s: told %q, want %q", id, states[id], tt.want)
		}
	}
}

// TestReceivedLate: the inbox has forgotten a message by the time its receipt is
// seen.
func TestReceivedLate(t *testing.T) {
	r := newRig(t)
	r.accept("m", users("42"))
	r.place("m", "#42", 100, "")
	r.at(time.Second)
	r.sweep()
	r.at(time.Hour)
	if _, err := r.store.Sweep(t.Context(), r.now()); err != nil {
		t.Fatal(err)
	}
	r.move("42", "phone", "#42", 100, 0)
	r.at(time.Hour + expiryGrace)
	r.sweep()
	if got := names(r.told()); got != "received #42" {
		t.Errorf("told %q, want received", got)
	}
}

// TestEventsWanted: a source is told what it asks for.
func TestEventsWanted(t *testing.T) {
	tests := map[string]struct{ events, want string }{
		"all":          {"", "received #42, acknowledged #42, expired #7"},
		"received":     {", events: message.received", "received #42"},
		"acknowledged": {", events: message.acknowledged", "acknowledged #42"},
		"expired":      {", events: message.expired", "expired #7"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.listen(tt.events)
			r.accept("m", users("42", "7"))
			r.place("m", "#42", 100, "")
			r.place("m", "#7", 100, "")
			r.at(time.Second)
			r.sweep()
			r.move("42", "phone", "#42", 100, 0)
			r.at(time.Minute)
			r.sweep()
			r.move("42", "phone", "#42", 100, 100)
			r.at(10 * time.Minute)
			r.sweep()
			r.at(3 * time.Hour)
			r.sweep()
			if got := names(r.told()); got != tt.want {
				t.Errorf("told %q, want %q", got, tt.want)
			}
			if left, err := r.store.ClaimCallbacks(t.Context(), start.AddDate(0, 0, 6), start.AddDate(0, 0, 6), 10); err != nil || len(left) > 0 {
				t.Errorf("%+v is still waited for, %v", left, err)
			}
		})
	}
}

// TestReceiverFails: what is not taken is tried again, later each time, and
// parked after a day; once it is replayed it is told.
func TestReceiverFails(t *testing.T) {
	tests := map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		reason string
	}{
		"500": {status(500), "the receiver answers 500"}, // the only one that is looked at often
		"redirect": {func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "/elsewhere", http.StatusTemporaryRedirect)
		}, "the receiver answers 307"},
		"404":      {status(404), "the receiver answers 404"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"endless headers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxHeaders))
		}, "exceeded"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.accept("m", users("42"))
			r.place("m", "#42", 100, "")
			r.move("42", "phone", "#42", 100, 0)
			r.answers(tt.answer)
			tries, first, step := 0, "", 8*time.Hour
			if name == "500" {
				step = 10 * time.Minute
			}
			for at := time.Second; at < 33*time.Hour && len(r.parked()) == 0; at += step {
				r.at(at)
				r.sweep()
				for _, p := range r.told() {
					if p.body.Type != "message.received" || first != "" && p.id != first {
						t.Fatalf("told %+v", p)
					}
					tries, first = tries+1, p.id
				}
			}
			parked := r.parked()
			if len(parked) != 1 || !strings.Contains(parked[0].Reason, tt.reason) || parked[0].Attempts != tries {
				t.Fatalf("parked after %d tries: %+v, want %q", tries, parked, tt.reason)
			}
			if failing := parked[0].DueAt.Sub(parked[0].FailingSince); failing < 24*time.Hour || failing > 32*time.Hour {
				t.Errorf("parked after %s", failing)
			}
			// About one in ten minutes for a day.
			if name == "500" && (tries < 80 || tries > 160) {
				t.Errorf("it was tried %d times", tries)
			}
			r.answers(nil)
			if ok, err := r.store.ReplayCallback(t.Context(), "m", r.now()); !ok || err != nil {
				t.Fatal(ok, err)
			}
			r.at(34 * time.Hour)
			r.sweep()
			if got := r.told(); names(got) != "received #42" || got[0].id != first {
				t.Errorf("after a replay told %+v, want received as %s", got, first)
			}
			if strings.Contains(r.logged.String(), "/hook") || strings.Contains(r.logged.String(), secret) {
				t.Errorf("the log tells an address or a secret: %s", r.logged)
			}
		})
	}
}

// TestReceiverSlow: one that does not answer in time is left alone, and does not
// hold up the entries behind.
func TestReceiverSlow(t *testing.T) {
	r := newRig(t)
	r.sweeper = r.newSweeper(PosterConfig{Allow: loopback(), Timeout: 3 * time.Second}, nil)
	over := make(chan struct{})
	defer close(over)
	r.answers(func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-over:
		case <-req.Context().Done():
		}
	})
	const messages = 100
	for i := range messages {
		id := push.MessageID("m" + strings.Repeat("x", i))
		r.accept(id, users("42"))
		r.place(id, "#42", push.Offset(100+i), "")
	}
	r.move("42", "phone", "#42", 1000, 0)
	r.at(time.Second)
	r.sweep()
	if got := len(r.told()); got == 0 || got > 2*postsAtOnce {
		t.Errorf("%d were tried at once, want at most %d", got, 2*postsAtOnce)
	}
	r.answers(nil)
	r.sweeper = r.newSweeper(PosterConfig{Allow: loopback()}, nil)
	r.at(time.Minute)
	r.sweep()
	if got := len(r.told()); got != messages {
		t.Errorf("%d were told once the receiver works, want %d", got, messages)
	}
}

// TestRetryAfter: a receiver says when it is to be tried again.
func TestRetryAfter(t *testing.T) {
	r := newRig(t)
	r.accept("m", users("42"))
	r.place("m", "#42", 100, "")
	r.move("42", "phone", "#42", 100, 0)
	r.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(429)
	})
	tries := 0
	for at := time.Second; at < 10*time.Minute; at += 30 * time.Second {
		r.at(at)
		r.sweep()
		tries += len(r.told())
	}
	if tries != 1 {
		t.Errorf("it was tried %d times within 10 minutes, want once", tries)
	}
	r.answers(status(410))
	r.at(10*time.Minute + time.Second)
	r.sweep()
	if parked := r.parked(); len(parked) != 1 || !strings.Contains(parked[0].Reason, "410") || len(r.told()) != 1 {
		t.Errorf("after 410 parked are %+v, want it at once", parked)
	}
}

// TestCrash: whoever dies between telling and keeping tells again, under the
// same id.
func TestCrash(t *testing.T) {
	r := newRig(t)
	r.accept("m", users("42"))
	r.place("m", "#42", 100, "")
	r.move("42", "phone", "#42", 100, 0)
	r.at(time.Second)
	r.store.dead = true
	if _, err := r.sweeper.Sweep(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("Sweep = %v", err)
	}
	first := r.told()
	r.store.dead = false
	r.at(30 * time.Second)
	r.sweep()
	if got := r.told(); len(got) > 0 {
		t.Errorf("told %q while it was claimed", names(got))
	}
	r.at(time.Second + claimTime)
	r.sweep()
	if again := r.told(); len(first) != 1 || len(again) != 1 || again[0].id != first[0].id {
		t.Errorf("told %+v and then %+v, want the same id twice", first, again)
	}
	r.at(2 * time.Hour)
	r.sweep()
	if got := r.told(); len(got) > 0 {
		t.Errorf("told %q once it was kept", names(got))
	}
}

// TestStopped: a sweeper that is stopped in the middle of a request has not
// failed.
func TestStopped(t *testing.T) {
	r := newRig(t)
	r.accept("m", users("42"))
	r.place("m", "#42", 100, "")
	r.move("42", "phone", "#42", 100, 0)
	r.at(time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	r.answers(func(_ http.ResponseWriter, req *http.Request) {
		cancel()
		<-req.Context().Done()
	})
	if _, err := r.sweeper.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	r.told()
	r.answers(nil)
	r.sweep()
	if got := names(r.told()); got != "received #42" {
		t.Errorf("the next one told %q", got)
	}
}

// TestTwoSweepers share the work: nothing is told twice.
func TestTwoSweepers(t *testing.T) {
	r := newRig(t)
	const messages = 60
	for i := range messages {
		id := push.MessageID("m" + strings.Repeat("x", i))
		r.accept(id, users("42"))
		r.place(id, "#42", push.Offset(100+i), "")
	}
	r.move("42", "phone", "#42", 1000, 1000)
	r.at(time.Second)
	sweepers := []*Sweeper{r.sweeper, r.newSweeper(PosterConfig{Allow: loopback()}, nil)}
	for _, s := range sweepers {
		s.cfg.Limit = 7
	}
	var both sync.WaitGroup
	for _, s := range sweepers {
		both.Go(func() {
			if err := s.RunSchedule(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	ids := make(map[string]int)
	for _, p := range r.told() {
		ids[p.id]++
	}
	if len(ids) != 2*messages {
		t.Errorf("%d events were told, want %d", len(ids), 2*messages)
	}
	for id, n := range ids {
		if n != 1 {
			t.Errorf("%s was told %d times", id, n)
		}
	}
}

// TestSourceChanges: entries wait for a source that is gone, and follow one that
// moves.
func TestSourceChanges(t *testing.T) {
	r := newRig(t)
	r.accept("m", users("42"))
	r.place("m", "#42", 100, "")
	r.move("42", "phone", "#42", 100, 0)
	r.listenAt("", "")
	r.at(time.Second)
	r.sweep()
	if got := r.told(); len(got) > 0 {
		t.Errorf("told %q without a callback", names(got))
	}
	r.listen("")
	r.at(time.Hour)
	r.sweep()
	if got := names(r.told()); got != "received #42" {
		t.Errorf("told %q once the callback is back", got)
	}
}

// TestForgotten: a callback whose message is gone, or of which what was told
// cannot be read, ends or is parked.
func TestForgotten(t *testing.T) {
	r := newRig(t)
	r.accept("unreadable", users("42"))
	entries := []store.Callback{
		{Message: "nobody", Source: "shop", DueAt: start, Until: start.Add(time.Hour)},
		{Message: "other", Source: "shop", DueAt: start, Until: start.Add(time.Hour), Progress: []byte("{")},
	}
	r.accept("other", users("42")) // its entry is not read yet
	if err := r.store.PutCallbacks(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	for _, progress := range []string{"{", "[null]", `[{"c":1}]`} {
		if _, err := decode([]byte(progress), &push.Message{}); err == nil {
			t.Errorf("decode(%s) = nil", progress)
		}
	}
	r.at(time.Second)
	r.sweep()
	if parked := r.parked(); len(parked) != 0 {
		t.Errorf("parked are %+v", parked)
	}
	due, err := r.store.ClaimCallbacks(t.Context(), start.Add(2*time.Hour), start.Add(2*time.Hour), 10)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(due, func(c store.Callback) bool { return c.Message == "nobody" }) {
		t.Error("the callback of a message that is gone still waits")
	}
}
