package sqlitestore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// openPrepared opens a new store for the length of the test.
func openPrepared(t *testing.T, cfg Config) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second) // the machine may be busy with other tests
	s, err := Open(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, path
}

func record(id string) store.Record {
	return store.Record{Message: push.Message{ID: push.MessageID(id), CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}}
}

func insertRecord(t *tx, id string) error {
	r := record(id)
	_, err := insertMessage(t, &r)
	return err
}

// holdWriter keeps the writer busy until the returned function is called.
func holdWriter(t *testing.T, s *Store) (release func()) {
	t.Helper()
	holding, released := make(chan struct{}), make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		ctx, cancel := s.deadline(context.Background())
		defer cancel()
		if err := s.writer.do(ctx, 1, func(*tx) error { close(holding); <-released; return nil }); err != nil {
			t.Errorf("the write that holds the writer: %v", err)
		}
	})
	<-holding
	return func() { close(released); done.Wait() }
}

// enqueue starts n writes and returns once all of them wait for the writer.
func enqueue(t *testing.T, s *Store, all *sync.WaitGroup, n int, run func(i int, t *tx) error, outcome func(i int, err error)) {
	t.Helper()
	for i := range n {
		all.Go(func() {
			ctx, cancel := s.deadline(context.Background())
			defer cancel()
			outcome(i, s.writer.do(ctx, 1, func(t *tx) error { return run(i, t) }))
		})
	}
	for wait := newWait(); len(s.writer.jobs) < n; {
		if !wait.pause(t.Context().Done(), nil) {
			t.Fatal("the writes did not get into the queue")
		}
	}
}

func countMessages(ctx context.Context, s *Store) (n int, err error) {
	err = s.queryRow(ctx, `SELECT count(*) FROM messages`, nil, &n)
	return n, err
}

// TestGroupCommit has writes wait behind another one and looks out of the last
// of them: it sees what all of them wrote, and nobody else sees any of it yet.
// So they share one transaction. One of them fails, and only its own work is
// undone.
func TestGroupCommit(t *testing.T) {
	const n, bad = 20, 7
	errBad := errors.New("bad")
	s, _ := openPrepared(t, Config{Timeout: 30 * time.Second})
	release := holdWriter(t, s)
	var all sync.WaitGroup
	ran := 0
	enqueue(t, s, &all, n, func(i int, tx *tx) error {
		if err := insertRecord(tx, fmt.Sprint("m", i)); err != nil {
			return err
		}
		if ran++; ran == n { // the last one, whichever it is
			var inside int
			if err := tx.row(`SELECT count(*) FROM messages`, nil, &inside); err != nil {
				return err
			}
			outside, err := countMessages(t.Context(), s)
			if want := n; i != bad && inside != want-1 || i == bad && inside != want || outside != 0 || err != nil {
				t.Errorf("the last write of %d sees %d messages, and others %d, %v", n, inside, outside, err)
			}
		}
		if i == bad {
			return errBad
		}
		return nil
	}, func(i int, err error) {
		if (i == bad) != errors.Is(err, errBad) || i != bad && err != nil {
			t.Errorf("write %d: %v", i, err)
		}
	})
	release()
	all.Wait()
	if got, err := countMessages(t.Context(), s); got != n-1 || err != nil {
		t.Errorf("%d messages are kept, %v; want %d", got, err, n-1)
	}
}

// TestFullDisk has one write of several find no room for what it writes. SQLite
// then gives all of their transaction up: each is told why, as of something that
// may go better the next time, and what comes later is kept.
func TestFullDisk(t *testing.T) {
	const n, large = 20, 7
	s, _ := openPrepared(t, Config{})
	if err := s.writer.do(t.Context(), 1, func(t *tx) error {
		var pages, most int
		if err := t.row(`PRAGMA page_count`, nil, &pages); err != nil {
			return err
		}
		return t.row(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+100), nil, &most)
	}); err != nil {
		t.Fatal(err)
	}
	release := holdWriter(t, s)
	var all sync.WaitGroup
	enqueue(t, s, &all, n, func(i int, tx *tx) error {
		r := record(fmt.Sprint("m", i))
		if i == large {
			r.Data = make([]byte, 1<<20)
		}
		_, err := insertMessage(tx, &r)
		return err
	}, func(i int, err error) {
		if !errors.Is(err, store.ErrUnavailable) || resultCode(err) != sqlite3.SQLITE_FULL {
			t.Errorf("write %d: %v, want %v for want of room", i, err, store.ErrUnavailable)
		}
	})
	release()
	all.Wait()
	if got, err := countMessages(t.Context(), s); got != 0 || err != nil {
		t.Errorf("%d messages are kept, %v; want none", got, err)
	}
	if _, err := s.InsertMessages(t.Context(), []store.Record{record("later")}); err != nil {
		t.Errorf("what comes later: %v", err)
	}
}

// TestPingWritesAfterAFault has the disk refuse writes: a store that cannot write is
// not ready, though it can be read, until it can again.
func TestPingWritesAfterAFault(t *testing.T) {
	s, _ := openPrepared(t, Config{})
	refuse := func(on int) {
		t.Helper()
		if err := s.writer.tx.control(fmt.Sprintf(`PRAGMA query_only = %d`, on)); err != nil { // nothing is under way
			t.Fatal(err)
		}
	}
	ping := func(when string, want error) {
		t.Helper()
		for range 2 {
			if err := s.Ping(t.Context()); !errors.Is(err, want) {
				t.Errorf("%s: Ping = %v, want %v", when, err, want)
			}
		}
	}
	refuse(1)
	ping("before any write failed", nil)
	if _, err := s.InsertMessages(t.Context(), []store.Record{record("m1")}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("InsertMessages = %v, want %v", err, store.ErrUnavailable)
	}
	ping("after a write failed", store.ErrUnavailable)
	refuse(0)
	ping("when it can be written again", nil)
}

// TestFullQueue fills the queue: a further write waits at the door, until its
// deadline.
func TestFullQueue(t *testing.T) {
	s, _ := openPrepared(t, Config{Timeout: 30 * time.Second, Queue: 2})
	release := holdWriter(t, s)
	var all sync.WaitGroup
	enqueue(t, s, &all, 2, func(int, *tx) error { return nil }, func(i int, err error) {
		if err != nil {
			t.Errorf("write %d: %v", i, err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := s.InsertMessages(ctx, []store.Record{record("late")})
	if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write that found the queue full: %v, want %v", err, store.ErrUnavailable)
	}
	release()
	all.Wait()
}

// TestAbandonedWrite changes what it wrote after its deadline passed; with
// -race this shows that the writer does not look at it any more.
func TestAbandonedWrite(t *testing.T) {
	s, _ := openPrepared(t, Config{Timeout: 30 * time.Second})
	release := holdWriter(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	entries := []store.InboxEntry{{Channel: "c", Offset: 1, Message: "m", ExpiresAt: time.Now().Add(time.Hour)}}
	if _, err := s.WriteInbox(ctx, entries); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("WriteInbox behind a held writer: %v, want %v", err, store.ErrUnavailable)
	}
	entries[0].Channel = "changed"
	release()
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLockedByAnother holds the write lock as another process would: writes
// fail in time, reads go on.
func TestLockedByAnother(t *testing.T) {
	s, path := openPrepared(t, Config{Timeout: 30 * time.Second})
	if _, err := s.InsertMessages(t.Context(), []store.Record{record("m")}); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, text := range []string{`BEGIN IMMEDIATE`, `DELETE FROM messages`} {
		if _, err := conn.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.InsertMessages(ctx, []store.Record{record("n")}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a write while another process writes: %v, want %v", err, store.ErrUnavailable)
	}
	if err := s.Prepare(t.Context()); err != nil {
		t.Errorf("Prepare, of a file that is up to date, while another process writes: %v", err)
	}
	if n, err := countMessages(t.Context(), s); n != 1 || err != nil {
		t.Errorf("a read while another process writes: %d messages, %v; want 1", n, err)
	}
	if _, err := conn.ExecContext(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.InsertMessages(t.Context(), []store.Record{record("n")}); err != nil {
		t.Errorf("a write when the other process is done: %v", err)
	}
}

// TestCloseUnderWrites closes a store that is being written to: every write
// ends, and says whether it counts.
func TestCloseUnderWrites(t *testing.T) {
	s, path := openPrepared(t, Config{Timeout: 30 * time.Second})
	var all sync.WaitGroup
	var mu sync.Mutex
	written := 0
	some := make(chan struct{})
	for i := range 8 {
		all.Go(func() {
			for n := 0; ; n++ {
				_, err := s.InsertMessages(t.Context(), []store.Record{record(fmt.Sprintf("m%d-%d", i, n))})
				if err != nil {
					if !errors.Is(err, store.ErrUnavailable) {
						t.Errorf("a write while the store closes: %v, want %v", err, store.ErrUnavailable)
					}
					return
				}
				mu.Lock()
				if written++; written == 20 {
					close(some)
				}
				mu.Unlock()
			}
		})
	}
	<-some
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()

	again, err := Open(path, Config{Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	n, err := countMessages(t.Context(), again)
	if err != nil || n < written {
		t.Errorf("%d messages are kept, %v; %d were answered", n, err, written)
	}
}

func TestNewerSchema(t *testing.T) {
	s, _ := openPrepared(t, Config{})
	err := s.writer.do(t.Context(), 1, func(t *tx) error { return t.control(`PRAGMA user_version = 99`) })
	if err == nil {
		err = s.Prepare(t.Context())
	}
	if err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Prepare of a newer program's file: %v, want an error that is not %v", err, store.ErrUnavailable)
	}
}

// TestDurable asks the writer's connection whether its commits are on disk.
func TestDurable(t *testing.T) {
	s, _ := openPrepared(t, Config{})
	var mode string
	var synchronous int
	ctx, cancel := s.deadline(t.Context())
	defer cancel()
	err := s.writer.do(ctx, 1, func(t *tx) error {
		return errors.Join(t.row(`PRAGMA journal_mode`, nil, &mode), t.row(`PRAGMA synchronous`, nil, &synchronous))
	})
	if err != nil || mode != "wal" || synchronous != 2 {
		t.Errorf("journal_mode %s, synchronous %d, %v; want wal and 2 (FULL)", mode, synchronous, err)
	}
}
