package collectfn

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

const later = `,"deliver_at":"2030-01-31T10:30:00Z"`

func TestCancel(t *testing.T) {
	entry := store.InboxEntry{Channel: "all", Offset: 7, Message: "shop/a", ExpiresAt: start.Add(2 * time.Hour)}
	claim := func(t *testing.T, r *rig, at time.Time) {
		t.Helper()
		got, err := r.store.ClaimOutbox(t.Context(), at, at.Add(time.Minute), 10)
		if err != nil || len(got) != 1 {
			t.Fatalf("claimed %v, %v", got, err)
		}
	}
	due := start.Add(time.Hour)
	tests := map[string]struct {
		message string
		before  func(t *testing.T, r *rig)
		status  int
	}{
		"scheduled":        {later, func(*testing.T, *rig) {}, 200},
		"cancelled before": {later, func(t *testing.T, r *rig) { r.order("DELETE", "/v1/messages/shop/a", "") }, 200},
		"sent again": {later, func(t *testing.T, r *rig) {
			r.post(`{"id":"a","to":{"all":true},"data":1,"ttl":"1h"` + later + `}`)
		}, 200},
		"due, and nobody came": {later, func(t *testing.T, r *rig) { r.set(func() { r.clock = due.Add(time.Second) }) }, 200},
		"its outbox entry was not written": {later, func(t *testing.T, r *rig) {
			if err := r.store.ConfirmOutbox(t.Context(), []push.MessageID{"shop/a"}); err != nil {
				t.Fatal(err)
			}
		}, 200},
		"claimed": {later, func(t *testing.T, r *rig) { claim(t, r, due) }, 409},
		"failed once": {later, func(t *testing.T, r *rig) {
			claim(t, r, due)
			if err := r.store.RetryOutbox(t.Context(), []store.OutboxEntry{{Message: "shop/a", DueAt: due, Attempts: 1}}); err != nil {
				t.Fatal(err)
			}
		}, 409},
		"gone out": {later, func(t *testing.T, r *rig) {
			claim(t, r, due)
			r.place(entry)
			if err := r.store.ConfirmOutbox(t.Context(), []push.MessageID{"shop/a"}); err != nil {
				t.Fatal(err)
			}
		}, 409},
		"gone out, and sent again": {later, func(t *testing.T, r *rig) {
			claim(t, r, due)
			r.place(entry)
			if err := r.store.ConfirmOutbox(t.Context(), []push.MessageID{"shop/a"}); err != nil {
				t.Fatal(err)
			}
			r.post(`{"id":"a","to":{"all":true},"data":1,"ttl":"1h"` + later + `}`)
		}, 409},
		"not scheduled":            {"", func(*testing.T, *rig) {}, 409},
		"not scheduled, in outbox": {"", func(t *testing.T, r *rig) { r.park("shop/a") }, 409},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			idOf(t, r.post(`{"id":"a","to":{"all":true},"data":1,"ttl":"1h"`+tt.message+`}`))
			tt.before(t, r)
			want := `{"id":"shop/a","state":"cancelled"}`
			if tt.status == 409 {
				want = `"code":"conflict"`
			}
			wantAnswer(t, "the cancel", r.order("DELETE", "/v1/messages/shop%2Fa", ""), tt.status, want)
			if tt.status == 200 {
				// Neither the sweep nor a repeat brings it back.
				r.set(func() { r.clock = due.Add(time.Minute) })
				r.handedOff()
				r.post(`{"id":"a","to":{"all":true},"data":1,"ttl":"1h"` + tt.message + `}`)
				if got, err := r.store.ClaimOutbox(t.Context(), due.Add(time.Hour), due.Add(2*time.Hour), 10); err != nil || len(got) != 0 {
					t.Errorf("a sweep claims %v, %v", got, err)
				}
				if ids, _ := r.handedOff(); len(ids) != 0 {
					t.Errorf("a repeat hands off %v", ids)
				}
			}
		})
	}
	t.Run("unknown", func(t *testing.T) {
		wantAnswer(t, "the cancel", newRig(t).order("DELETE", "/v1/messages/shop/a", ""), 404, `"not_found"`)
	})
}

// TestCancelOrGoneOut races cancels against the sweep's claims: each message is
// either cancelled or goes out, as its sender is told.
func TestCancelOrGoneOut(t *testing.T) {
	r := newRig(t)
	const n = 40
	for i := range n {
		idOf(t, r.post(fmt.Sprintf(`{"id":"m%d","to":{"all":true},"data":1`+later+`}`, i)))
	}
	r.set(func() { r.clock = start.Add(2 * time.Hour) })
	out := make(map[push.MessageID]bool)
	cancelled := make([]int, n)
	var all sync.WaitGroup
	all.Go(func() {
		for len(out) < n {
			now := start.Add(2 * time.Hour)
			claimed, err := r.store.ClaimOutbox(t.Context(), now, now.Add(time.Hour), 1)
			if err != nil {
				t.Error(err)
				return
			}
			if len(claimed) == 0 {
				return
			}
			out[claimed[0].Message] = true
		}
	})
	for worker := range 4 {
		all.Go(func() {
			for i := n - 1 - worker; i >= 0; i -= 4 {
				cancelled[i] = r.order("DELETE", fmt.Sprintf("/v1/messages/shop/m%d", i), "").Code
			}
		})
	}
	all.Wait()
	for i, status := range cancelled {
		gone := out[push.MessageID(fmt.Sprintf("shop/m%d", i))]
		if !(status == 200 && !gone || status == 409 && gone) {
			t.Errorf("m%d: the cancel is answered %d, and it went out: %v", i, status, gone)
		}
	}
}

func TestParked(t *testing.T) {
	r := newRig(t)
	wantAnswer(t, "nothing parked", r.order("GET", "/v1/parked", ""), 200, `{"parked":[]}`)
	odd := "ä b?/%2F/replay"
	for _, id := range []string{"a", "b", odd} {
		idOf(t, r.post(fmt.Sprintf(`{"id":%q,"to":{"all":true},"data":1,"ttl":"1h"}`, id)))
	}
	r.park("shop/a", "shop/b", "shop/"+push.MessageID(odd))
	wantAnswer(t, "the list", r.order("GET", "/v1/parked", ""), 200,
		`{"parked":[{"id":"shop/a","reason":"unavailable: no","attempts":12,"parked_at":"2030-01-31T09:30:00Z"},{"id":"shop/b",`)
	for _, o := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"POST", "/v1/parked/shop/a/replay", 202, `{"id":"shop/a","state":"stored"}`},
		{"POST", "/v1/parked/shop/a/replay", 404, `"not_found"`},
		{"DELETE", "/v1/parked/shop/a", 404, `"not_found"`},
		{"DELETE", "/v1/parked/shop%2Fb", 200, `{"id":"shop/b","state":"cancelled"}`},
		{"DELETE", "/v1/parked/shop%2Fb", 404, `"not_found"`},
		{"POST", "/v1/parked/" + url.PathEscape("shop/"+odd) + "/replay", 202, `"state":"stored"`},
		{"POST", "/v1/parked/shop/a", 404, `"not_found"`},
		{"POST", "/v1/parked/replay", 404, `"not_found"`},
		{"DELETE", "/v1/parked/", 404, `"not_found"`},
		{"DELETE", "/v1/parked/" + strings.Repeat("x", 600), 404, `"not_found"`},
	} {
		wantAnswer(t, o.method+" "+o.path, r.order(o.method, o.path, ""), o.status, o.want)
	}
	ids := make(map[push.MessageID]bool)
	for _, e := range r.outbox() {
		ids[e.Message] = true
	}
	if len(ids) != 2 || !ids["shop/a"] || !ids["shop/"+push.MessageID(odd)] {
		t.Errorf("in the outbox wait %v, want what was replayed", ids)
	}
	wantAnswer(t, "nothing parked any more", r.order("GET", "/v1/parked", ""), 200, `{"parked":[]}`)
}

func TestReplayExpired(t *testing.T) {
	r := newRig(t)
	idOf(t, r.post(`{"id":"a","to":{"all":true},"data":1,"ttl":"1h"}`))
	r.park("shop/a", "shop/without-record")
	r.set(func() { r.clock = start.Add(time.Hour) })
	wantAnswer(t, "the replay of what has expired", r.order("POST", "/v1/parked/shop/a/replay", ""), 409, `"conflict"`)
	wantAnswer(t, "the replay of what cannot be read", r.order("POST", "/v1/parked/shop/without-record/replay", ""), 202, `"stored"`)
}

func TestParkedPages(t *testing.T) {
	r := newRig(t)
	const n = pageParked + 5
	var entries []store.OutboxEntry
	var parked []store.ParkedEntry
	for i := range n {
		for _, sender := range []string{"shop", "crm"} {
			id := push.MessageID(fmt.Sprintf("%s/%04d", sender, i))
			entries = append(entries, store.OutboxEntry{Message: id, DueAt: start})
			parked = append(parked, store.ParkedEntry{Message: id, At: start.Add(time.Duration(i/10) * time.Second), Until: start.Add(time.Hour)})
		}
	}
	// A few at a time: each call has a deadline, also on a busy machine.
	for few := range slices.Chunk(entries, 100) {
		if err := r.store.PutOutbox(t.Context(), few); err != nil {
			t.Fatal(err)
		}
	}
	for few := range slices.Chunk(parked, 100) {
		if err := r.store.ParkOutbox(t.Context(), few); err != nil {
			t.Fatal(err)
		}
	}
	var sizes []int
	seen := make(map[push.MessageID]bool)
	path := "/v1/parked"
	for range 5 {
		var list parkedList
		decode(t, r.order("GET", path, ""), &list)
		sizes = append(sizes, len(list.Parked))
		for _, p := range list.Parked {
			seen[p.ID] = true
		}
		if list.Next == "" {
			break
		}
		path = "/v1/parked?next=" + list.Next
	}
	if len(seen) != n || len(sizes) != 2 || sizes[0] != pageParked {
		t.Errorf("pages of %v tell of %d parked messages, want %d in two", sizes, len(seen), n)
	}
}
