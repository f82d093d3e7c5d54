package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pushcluster/shared/store"
)

var deliveryTests = []test{
	{"deliveries/keep and load", testDelivery},
	{"deliveries/come again", testDeliveryAgain},
	{"deliveries/list", testListDeliveries},
	{"deliveries/odd ids", testOddDeliveries},
	{"deliveries/judge", testJudge},
	{"deliveries/count replays", testCountReplay},
	{"deliveries/trim", testTrim},
	{"deliveries/sweep", testSweepDeliveries},
}

// delivery returns a delivery of the source a, received after base, that may be
// forgotten an hour later.
func delivery(id string, after time.Duration) store.Delivery {
	at := base.Add(after)
	return store.Delivery{
		Source: "a", ID: id, ReceivedAt: at, LastAt: at, Until: at.Add(time.Hour), Receipts: 1,
		Outcome: "parked", Detail: []byte(`{"of":"` + id + `"}`), Body: []byte("body of " + id + "\x00\xff"),
	}
}

// keep keeps deliveries.
func keep(t *testing.T, s store.Store, records ...store.Delivery) {
	t.Helper()
	check(t, s.PutDeliveries(t.Context(), records))
}

// wantDelivery fails the test unless exactly want is kept under its id.
func wantDelivery(t *testing.T, s store.Store, want store.Delivery) {
	t.Helper()
	got, err := s.LoadDelivery(t.Context(), want.Source, want.ID)
	check(t, err)
	if !sameDelivery(got, want) {
		t.Errorf("delivery %q is\n%+v, want\n%+v", want.ID, got, want)
	}
}

func sameDelivery(a, b store.Delivery) bool {
	return a.Source == b.Source && a.ID == b.ID && a.ReceivedAt.Equal(b.ReceivedAt) && a.LastAt.Equal(b.LastAt) && a.Until.Equal(b.Until) &&
		a.Receipts == b.Receipts && a.Replays == b.Replays && a.Outcome == b.Outcome && a.Settled == b.Settled &&
		bytes.Equal(a.Detail, b.Detail) && bytes.Equal(a.Body, b.Body)
}

// deliveryIDs returns the ids of what q asks for, and fails the test if they
// have bodies or not as q says.
func deliveryIDs(t *testing.T, s store.Store, q store.DeliveriesQuery) (ids []string) {
	t.Helper()
	list, err := s.ListDeliveries(t.Context(), q)
	check(t, err)
	for _, d := range list {
		if (len(d.Body) > 0) != q.Bodies {
			t.Errorf("of %+v, %q has a body of %d bytes", q, d.ID, len(d.Body))
		}
		ids = append(ids, d.ID)
	}
	return ids
}

func testDelivery(t *testing.T, s store.Store) {
	d, bare := delivery("d", 0), delivery("bare", time.Second)
	bare.Detail, bare.Body = nil, nil
	keep(t, s, d, bare)
	wantDelivery(t, s, d)
	wantDelivery(t, s, bare)
	for _, key := range [][2]string{{"a", "other"}, {"b", "d"}} {
		if _, err := s.LoadDelivery(t.Context(), key[0], key[1]); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("LoadDelivery(%v) = %v, want ErrNotFound", key, err)
		}
	}
}

func testDeliveryAgain(t *testing.T, s store.Store) {
	first := delivery("d", 0)
	keep(t, s, first)
	if n, err := s.CountReplay(t.Context(), "a", "d"); err != nil || n != 1 {
		t.Fatalf("CountReplay = %d, %v, want 1", n, err)
	}
	// What is not settled is replaced, also by one without a body.
	bare := delivery("d", time.Second)
	bare.Detail, bare.Body = nil, nil
	keep(t, s, bare)
	bare.Receipts, bare.Replays = 2, 1
	wantDelivery(t, s, bare)
	// The last of one call counts.
	third := delivery("d", 2*time.Minute)
	third.Outcome, third.Settled, third.Body = "accepted", true, []byte("third")
	keep(t, s, delivery("d", time.Minute), third)
	third.Receipts, third.Replays = 4, 1
	wantDelivery(t, s, third)
	// What is settled stays.
	for range 2 {
		keep(t, s, delivery("d", 3*time.Minute))
	}
	third.Receipts, third.LastAt = 6, base.Add(3*time.Minute)
	wantDelivery(t, s, third)
	if got := deliveryIDs(t, s, store.DeliveriesQuery{Source: "a"}); !slices.Equal(got, []string{"d"}) {
		t.Errorf("listed are %q, want d alone", got)
	}
}

func testListDeliveries(t *testing.T, s store.Store) {
	other := delivery("x", 0)
	other.Source = "b"
	var records []store.Delivery
	for i := range 8 { // two at each time
		d := delivery(fmt.Sprint("d", i), time.Duration(i/2)*time.Second)
		if i%3 == 0 {
			d.Outcome = "accepted"
		}
		records = append(records, d)
	}
	keep(t, s, append(records, other)...)
	place := func(i int) store.DeliveryPlace { return records[i].Place() }
	at := func(i int) store.DeliveryPlace { return store.DeliveryPlace{At: records[i].ReceivedAt} }
	tests := map[string]struct {
		q    store.DeliveriesQuery
		want string
	}{
		"all":                  {store.DeliveriesQuery{}, "[d0 d1 d2 d3 d4 d5 d6 d7]"},
		"newest first":         {store.DeliveriesQuery{Newest: true, Bodies: true}, "[d7 d6 d5 d4 d3 d2 d1 d0]"},
		"some":                 {store.DeliveriesQuery{Limit: 3}, "[d0 d1 d2]"},
		"the next":             {store.DeliveriesQuery{After: place(2), Limit: 3, Bodies: true}, "[d3 d4 d5]"},
		"the newest":           {store.DeliveriesQuery{Newest: true, Limit: 2}, "[d7 d6]"},
		"before one":           {store.DeliveriesQuery{Newest: true, Before: place(5), Limit: 2}, "[d4 d3]"},
		"from a time":          {store.DeliveriesQuery{After: at(4)}, "[d4 d5 d6 d7]"},
		"to a time":            {store.DeliveriesQuery{Before: at(4)}, "[d0 d1 d2 d3]"},
		"between":              {store.DeliveriesQuery{After: place(1), Before: at(6), Newest: true}, "[d5 d4 d3 d2]"},
		"of an outcome":        {store.DeliveriesQuery{Outcome: "accepted"}, "[d0 d3 d6]"},
		"the newest of one":    {store.DeliveriesQuery{Outcome: "parked", Newest: true, Limit: 2}, "[d7 d5]"},
		"of one before one":    {store.DeliveriesQuery{Outcome: "accepted", Before: place(6), Newest: true}, "[d3 d0]"},
		"of an unknown one":    {store.DeliveriesQuery{Outcome: "refused"}, "[]"},
		"nothing between":      {store.DeliveriesQuery{After: place(3), Before: place(4)}, "[]"},
		"of an unknown source": {store.DeliveriesQuery{Source: "c"}, "[]"},
	}
	for name, tt := range tests {
		if tt.q.Source == "" {
			tt.q.Source = "a"
		}
		if got := fmt.Sprint(deliveryIDs(t, s, tt.q)); got != tt.want {
			t.Errorf("%s: %+v lists %s, want %s", name, tt.q, got, tt.want)
		}
	}
}

func testOddDeliveries(t *testing.T, s store.Store) {
	var records []store.Delivery
	for _, name := range append([]string{"*", "a*b", "a"}, oddNames...) {
		if !slices.ContainsFunc(records, func(d store.Delivery) bool { return d.ID == name }) {
			records = append(records, delivery(name, 0))
		}
	}
	keep(t, s, records...)
	want := make([]string, len(records))
	for i, d := range records {
		want[i] = d.ID
		wantDelivery(t, s, d)
	}
	slices.Sort(want)
	var got []string
	q := store.DeliveriesQuery{Source: "a", Limit: 5}
	for range records {
		page, err := s.ListDeliveries(t.Context(), q)
		check(t, err)
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			got = append(got, d.ID)
		}
		q.After = page[len(page)-1].Place()
	}
	if !slices.Equal(got, want) {
		t.Errorf("in pages\n%q, want\n%q", got, want)
	}
}

func testJudge(t *testing.T, s store.Store) {
	d, other := delivery("d", 0), delivery("other", 0)
	keep(t, s, d, other)
	judged := store.Delivery{Source: "a", ID: "d", Outcome: "accepted", Settled: true, Detail: []byte("judged")}
	gone := judged
	gone.ID = "gone"
	check(t, s.JudgeDeliveries(t.Context(), nil))
	check(t, s.JudgeDeliveries(t.Context(), []store.Delivery{judged, gone}))
	d.Outcome, d.Settled, d.Detail = judged.Outcome, judged.Settled, judged.Detail
	wantDelivery(t, s, d)
	wantDelivery(t, s, other)
	if _, err := s.LoadDelivery(t.Context(), "a", "gone"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("judging made a delivery: %v", err)
	}
	keep(t, s, delivery("d", time.Second)) // it is settled now
	d.Receipts, d.LastAt = 2, base.Add(time.Second)
	wantDelivery(t, s, d)
}

func testCountReplay(t *testing.T, s store.Store) {
	keep(t, s, delivery("d", 0))
	counts := make([]int, 8)
	together(len(counts), func(i int) {
		n, err := s.CountReplay(t.Context(), "a", "d")
		if err != nil {
			t.Error(err)
		}
		counts[i] = n
	})
	slices.Sort(counts)
	if want := []int{1, 2, 3, 4, 5, 6, 7, 8}; !slices.Equal(counts, want) {
		t.Errorf("replays were counted %v, want %v", counts, want)
	}
	if _, err := s.CountReplay(t.Context(), "a", "gone"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("CountReplay of what is not there = %v, want ErrNotFound", err)
	}
}

func testTrim(t *testing.T, s store.Store) {
	other := delivery("x", 0)
	other.Source = "b"
	records := []store.Delivery{other}
	for i := range 6 {
		d := delivery(fmt.Sprint("d", i), time.Duration(i/2)*time.Second)
		d.Detail, d.Body = nil, make([]byte, 8) // 10 bytes with its id
		records = append(records, d)
	}
	keep(t, s, records...)
	for _, step := range []struct {
		most, size, removed int
		left                string
	}{
		{6, 60, 0, "[d0 d1 d2 d3 d4 d5]"},
		{5, 1000, 1, "[d1 d2 d3 d4 d5]"},
		{5, 49, 1, "[d2 d3 d4 d5]"},
		{4, 25, 2, "[d4 d5]"},
		{0, 1000, 2, "[]"},
		{0, 0, 0, "[]"},
	} {
		n, err := s.TrimDeliveries(t.Context(), "a", step.most, int64(step.size))
		check(t, err)
		if got := fmt.Sprint(deliveryIDs(t, s, store.DeliveriesQuery{Source: "a", Bodies: true})); n != step.removed || got != step.left {
			t.Errorf("trimmed to %d of %d bytes: %d went and %s are left, want %d and %s", step.most, step.size, n, got, step.removed, step.left)
		}
	}
	wantDelivery(t, s, other)
}

func testSweepDeliveries(t *testing.T, s store.Store) {
	keep(t, s, delivery("old", 0), delivery("fresh", time.Minute))
	for _, step := range []struct {
		after time.Duration
		want  int
		left  string
	}{{time.Hour - time.Millisecond, 0, "[old fresh]"}, {time.Hour, 1, "[fresh]"}, {2 * time.Hour, 1, "[]"}} {
		n, err := s.Sweep(t.Context(), base.Add(step.after))
		check(t, err)
		if got := fmt.Sprint(deliveryIDs(t, s, store.DeliveriesQuery{Source: "a"})); n != step.want || got != step.left {
			t.Errorf("after %v %d went and %s are left, want %d and %s", step.after, n, got, step.want, step.left)
		}
	}
}
