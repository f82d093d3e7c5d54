// Package sqlitestore keeps the store's contract in one SQLite file.
//
// Several processes on one machine may open the same file. Readers never wait:
// the file is in WAL mode, and reads go over connections of their own. Writers
// take turns, across processes too. Within a process concurrent writes share one
// transaction and so one fsync: a single goroutine takes whatever waits, runs
// each write in a savepoint of its own, commits once and answers all of them.
// What was answered is on disk.
//
// A process that is stopped (not ended) while it holds the write lock stalls
// the writers of the others until their deadlines.
package sqlitestore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"pushcluster/shared/store"
)

// A Config tunes a [Store]. Its zero value is good.
type Config struct {
	Timeout time.Duration // of a call whose context ends later or never; 0: 5 s
	Queue   int           // writes that may wait for the writer; further ones wait at its door until their deadline; 0: 1,024
	Readers int           // connections for reading; 0: 8
}

func (c Config) withDefaults() Config {
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Queue <= 0 {
		c.Queue = 1024
	}
	if c.Readers <= 0 {
		c.Readers = 8
	}
	return c
}

// A Store is a [store.Store] in a SQLite file. Its methods may be called from
// several goroutines.
type Store struct {
	cfg    Config
	reader *sql.DB // connections that cannot write
	writer *writer

	mu    sync.Mutex           // guards what follows
	stmts map[string]*sql.Stmt // of reader, by their text
}

var _ store.Store = (*Store)(nil)

// Open opens the database in the file at path, which is made with mode 0600 if
// it is missing; its directory has to exist. It starts the writer, which
// [Store.Close] ends. Before first use of a new file, call [Store.Prepare].
func Open(path string, cfg Config) (*Store, error) {
	if path == "" || path == ":memory:" {
		return nil, errors.New("sqlitestore: the store needs a file: name its path")
	}
	cfg = cfg.withDefaults()
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", path, err)
	}
	if err := touch(abs); err != nil {
		return nil, fmt.Errorf("open the store's file: %w", err)
	}

	writer, err := openWriter(abs, cfg)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	reader, err := sql.Open("sqlite", dsn(abs,
		pragma("busy_timeout", cfg.Timeout.Milliseconds()), pragma("query_only", 1), pragma("cache_size", -8000)))
	if err != nil {
		writer.close()
		return nil, fmt.Errorf("open %s for reading: %w", path, err)
	}
	reader.SetMaxOpenConns(cfg.Readers)
	reader.SetMaxIdleConns(cfg.Readers)
	return &Store{cfg: cfg, reader: reader, writer: writer, stmts: make(map[string]*sql.Stmt)}, nil
}

// Close ends the writer, waits for it, and closes the file. Writes that still
// wait fail with [store.ErrUnavailable].
func (s *Store) Close() error {
	err := s.writer.close()
	return errors.Join(err, s.reader.Close())
}

// Ping reads from the file. Where the last write found no room there, or could not be
// made for another fault of the disk, it writes as well.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if s.writer.ill.Load() {
		if err := s.writer.do(ctx, 1, probe); err != nil {
			return fmt.Errorf("ping the store: %w", err)
		}
	}
	var n int
	if err := s.queryRow(ctx, `SELECT count(*) FROM (SELECT 1 FROM sqlite_schema LIMIT 1)`, nil, &n); err != nil {
		return fmt.Errorf("ping the store: %w", err)
	}
	return nil
}

// probe writes something of no meaning.
func probe(t *tx) error {
	_, err := t.exec(`INSERT INTO control (name, value) VALUES ('probe', ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, rand.Text())
	return err
}

// deadline gives ctx the store's own deadline if that is sooner.
func (s *Store) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.Timeout)
}

// query calls row for each row that text returns, until row reports false.
func (s *Store) query(ctx context.Context, text string, args []any, row func(scan func(...any) error) (bool, error)) error {
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	stmt, err := s.prepared(ctx, text)
	if err != nil {
		return classify(err)
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		more, err := row(rows.Scan)
		if err != nil {
			return classify(err)
		}
		if !more {
			return nil
		}
	}
	return classify(rows.Err())
}

// queryRow scans the first row that text returns into dest. Its error wraps
// [store.ErrNotFound] if there is none.
func (s *Store) queryRow(ctx context.Context, text string, args []any, dest ...any) error {
	found := false
	err := s.query(ctx, text, args, func(scan func(...any) error) (bool, error) {
		found = true
		return false, scan(dest...)
	})
	if err == nil && !found {
		return store.ErrNotFound
	}
	return err
}

// prepared returns the statement of text, made at its first use.
//
// A parameter that is the whole of a LIMIT makes SQLite prepare the statement
// again for each execution, in case another value is worth another plan, which
// costs more than most of ours do: a limit is written as ? + 0.
func (s *Store) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	s.mu.Lock()
	stmt, ok := s.stmts[text]
	s.mu.Unlock()
	if ok {
		return stmt, nil
	}
	stmt, err := s.reader.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.stmts[text]; ok { // somebody was faster
		return first, stmt.Close()
	}
	s.stmts[text] = stmt
	return stmt, nil
}

// touch makes the file at path if it is missing. SQLite would give it a mode
// that lets others read it.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil // not opened: closing it would drop the locks that this process holds on it
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func dsn(path string, pragmas ...string) string {
	return (&url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: url.Values{"_pragma": pragmas}.Encode()}).String()
}

func pragma(name string, value int64) string {
	return name + "(" + strconv.FormatInt(value, 10) + ")"
}
