package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of one transaction, so that no write waits long behind the others.
const (
	maxJobs    = 512
	maxRecords = 20_000
)

// A writer is the one goroutine of this process that writes to the file.
type writer struct {
	// Fixed by openWriter.
	jobs    chan *job     // never closed; bounded, senders wait
	closing chan struct{} // closed by close
	ended   chan struct{} // closed when the loop has returned
	once    sync.Once     // of close
	closed  error         // what closing the connection said; set before ended
	ill     atomic.Bool   // the disk failed the last transaction, or a job of it; set by loop

	// Owned by loop.
	db   *sql.DB
	tx   *tx
	turn *turn
}

// A job is one write that waits for its transaction.
type job struct {
	ctx     context.Context // of the caller, with a deadline
	records int             // how much work it is
	run     func(*tx) error // called once by the writer, or never; must not keep the tx
	done    chan error      // takes the outcome; has room for it
}

// openWriter opens the connection that writes, brings the file into WAL mode
// and starts the loop.
func openWriter(path string, cfg Config) (*writer, error) {
	db, err := sql.Open("sqlite", dsn(path, pragma("busy_timeout", 0), pragma("cache_size", -16000), "temp_store(memory)"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Timeout)
	defer cancel()
	conn, err := setUp(ctx, db)
	if err != nil {
		return nil, errors.Join(classify(err), db.Close())
	}
	w := &writer{
		jobs: make(chan *job, cfg.Queue), closing: make(chan struct{}), ended: make(chan struct{}),
		db: db, tx: &tx{conn: conn, stmts: make(map[string]*sql.Stmt)}, turn: openTurn(path + "-turn"),
	}
	go w.loop()
	return w, nil
}

// setUp returns a connection in WAL mode whose commits are on disk.
func setUp(ctx context.Context, db *sql.DB) (*sql.Conn, error) {
	for wait := newWait(); ; {
		conn, err := db.Conn(ctx)
		if err == nil {
			// FULL is what makes a commit in WAL mode durable. Another process
			// that does the same at this moment makes the switch fail as busy.
			var mode string
			err = conn.QueryRowContext(ctx, `PRAGMA journal_mode=WAL`).Scan(&mode)
			if err == nil && mode != "wal" {
				err = fmt.Errorf("the file cannot be brought into WAL mode, it stays in mode %s", mode)
			}
			if err == nil {
				_, err = conn.ExecContext(ctx, `PRAGMA synchronous=FULL; PRAGMA journal_size_limit=67108864`)
			}
			if err == nil {
				return conn, nil
			}
			err = errors.Join(err, conn.Close())
		}
		if !busy(err) || !wait.pause(ctx.Done(), nil) {
			return nil, err
		}
	}
}

// do has run executed in a transaction of the writer and returns once that is
// committed. If ctx ends first, the write may still happen: run must own what it
// reads, and the caller must not touch what it writes unless do returned nil.
func (w *writer) do(ctx context.Context, records int, run func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	j := &job{ctx: ctx, records: records, run: run, done: make(chan error, 1)}
	select {
	case <-w.closing:
		return errClosed
	case <-ctx.Done():
		return unavailable(ctx.Err())
	case w.jobs <- j:
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return unavailable(ctx.Err())
	case <-w.ended:
		select {
		case err := <-j.done:
			return err
		default:
			return errClosed // it went into the queue behind the loop's last look
		}
	}
}

// close ends the loop, waits for it and closes its connection.
func (w *writer) close() error {
	w.once.Do(func() { close(w.closing) })
	<-w.ended
	return w.closed
}

func (w *writer) loop() {
	defer close(w.ended)
	for {
		select {
		case <-w.closing:
			w.tx.close()
			w.turn.close()
			w.closed = errors.Join(w.tx.conn.Close(), w.db.Close())
			return
		case first := <-w.jobs:
			w.commit(w.gather(first))
		}
	}
}

// gather returns first and what else waits, within the bounds of one
// transaction.
func (w *writer) gather(first *job) []*job {
	batch, records := []*job{first}, first.records
	for len(batch) < maxJobs && records < maxRecords {
		select {
		case j := <-w.jobs:
			batch = append(batch, j)
			records += j.records
		default:
			return batch
		}
	}
	return batch
}

// commit runs batch in one transaction and answers every job of it.
func (w *writer) commit(batch []*job) {
	if err := w.begin(batch); err != nil {
		w.ill.Store(w.ill.Load() || ofDisk(err)) // one that waited in vain tells nothing of the disk
		for _, j := range batch {
			j.done <- err
		}
		return
	}
	outcomes := make([]error, len(batch))
	err := w.attemptAll(batch, outcomes)
	if err == nil {
		if err = w.tx.control("COMMIT"); err != nil {
			err = fmt.Errorf("commit: %w", classify(err))
		}
	}
	if err != nil {
		_ = w.tx.control("ROLLBACK") // so that the next transaction can begin
		for i := range outcomes {
			outcomes[i] = err
		}
	}
	w.ill.Store(slices.ContainsFunc(outcomes, ofDisk))
	for i, j := range batch {
		j.done <- outcomes[i]
	}
}

// attemptAll runs batch and sets the outcome of each job. An error means that all
// of the transaction is lost, and says why.
func (w *writer) attemptAll(batch []*job, outcomes []error) error {
	for i, j := range batch {
		lost, err := w.tx.attempt(j)
		if lost {
			return fmt.Errorf("the transaction was rolled back: %w", err)
		}
		outcomes[i] = err
	}
	return nil
}

// begin takes the file's write lock. Its error says why it could not before the
// last deadline of batch.
func (w *writer) begin(batch []*job) error {
	var deadline time.Time
	for _, j := range batch {
		if d, ok := j.ctx.Deadline(); ok && d.After(deadline) {
			deadline = d
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()

	// Whoever has the turn is the next to write. Without it, a process with
	// much to write would take the lock again before another one looks.
	defer w.turn.release()
	for wait := newWait(); ; {
		if w.turn.take() {
			err := w.tx.control("BEGIN IMMEDIATE")
			if err == nil {
				return nil
			}
			if !busy(err) {
				return fmt.Errorf("begin: %w", classify(err))
			}
		}
		if !wait.pause(ctx.Done(), w.closing) {
			if ctx.Err() == nil {
				return errClosed
			}
			return unavailable(errors.New("another process holds the write lock"))
		}
	}
}

// A wait paces the tries for a lock whose release nobody announces.
type wait struct{ next time.Duration }

func newWait() *wait { return &wait{next: 200 * time.Microsecond} }

// pause waits a little, each time a little longer up to 5 ms. It reports false
// if one of the channels was closed before.
func (w *wait) pause(a, b <-chan struct{}) bool {
	timer := time.NewTimer(w.next)
	defer timer.Stop()
	w.next = min(w.next*3/2, 5*time.Millisecond)
	select {
	case <-a:
		return false
	case <-b:
		return false
	case <-timer.C:
		return true
	}
}
