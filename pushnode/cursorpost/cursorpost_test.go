package cursorpost_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/pushnode/cursorpost"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
	"pushcluster/shared/store/sqlitestore"
)

// dispatch stands for Dispatch: it writes the batches it gets to st, as that
// does, or answers 503.
func dispatch(t *testing.T, st store.Store, away *bool) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var batch store.CursorBatch
		if *away {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if p := serve.Decode(w, r, 8<<20, &batch); p != nil || r.URL.Path != "/v1/dispatch/cursors" {
			t.Errorf("%s: %v", r.URL.Path, p)
		}
		if err := batch.Write(r.Context(), st); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestCursorsGoThroughDispatch(t *testing.T) {
	st, err := sqlitestore.Open(filepath.Join(t.TempDir(), "store.db"), sqlitestore.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ctx := t.Context()
	if err := st.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	var away bool
	srv := dispatch(t, st, &away)
	s, err := cursorpost.New(st, srv.URL+"/", srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	const count = 1500 // more than one request
	var cursors []store.Cursor
	for i := range count {
		cursors = append(cursors, store.Cursor{User: "42", Device: "phone", Channel: numbered(i), Received: 7})
	}
	if err := s.AdvanceCursors(ctx, cursors); err != nil {
		t.Fatal(err)
	}
	got, err := s.LoadCursors(ctx, []store.UserDevice{{User: "42", Device: "phone"}})
	if err != nil || len(got) != count {
		t.Fatalf("LoadCursors = %d cursors, %v, want %d", len(got), err, count)
	}
	at := time.Now().UTC().Truncate(time.Millisecond)
	for i := range cursors {
		cursors[i].UpdatedAt = at
	}
	if err := s.TouchCursors(ctx, cursors); err != nil {
		t.Fatal(err)
	}
	if got, err = s.LoadCursors(ctx, []store.UserDevice{{User: "42", Device: "phone"}}); err != nil || !slices.Equal(sorted(got), sorted(cursors)) {
		t.Errorf("after touching all, LoadCursors = %d cursors, %v, want %d of %s", len(got), err, count, at)
	}
	if err := s.RemoveCursors(ctx, "42", "phone", []push.Channel{numbered(0), numbered(1)}); err != nil {
		t.Fatal(err)
	}
	if got, err = s.LoadCursors(ctx, []store.UserDevice{{User: "42", Device: "phone"}}); err != nil || len(got) != count-2 {
		t.Errorf("after removing two LoadCursors = %d cursors, %v, want %d", len(got), err, count-2)
	}
	if err := s.ForgetDevices(ctx, "42", []push.Device{"phone"}, at.Add(-time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if got, err = s.LoadCursors(ctx, []store.UserDevice{{User: "42", Device: "phone"}}); err != nil || len(got) != 0 {
		t.Errorf("after forgetting a device without a personal cursor LoadCursors = %d cursors, %v, want 0", len(got), err)
	}
	away = true
	if err := s.AdvanceCursors(ctx, cursors[:1]); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("AdvanceCursors with Dispatch away = %v, want ErrUnavailable", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, url := range []string{"", "dispatch:8703", "lambda://dispatch", "http://"} {
		if _, err := cursorpost.New(nil, url, nil); err == nil {
			t.Errorf("New(%q) has no error", url)
		}
	}
}

func numbered(i int) push.Channel { return push.Channel(fmt.Sprint("room:", i)) }

func sorted(cursors []store.Cursor) []store.Cursor {
	return slices.SortedFunc(slices.Values(cursors), func(a, b store.Cursor) int { return strings.Compare(string(a.Channel), string(b.Channel)) })
}
