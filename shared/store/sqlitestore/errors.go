package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"pushcluster/shared/store"
)

// errClosed is what callers of a closed store get.
var errClosed = fmt.Errorf("%w: it is closed", store.ErrUnavailable)

// unavailable marks err as the store's failure to answer.
func unavailable(err error) error { return fmt.Errorf("%w: %w", store.ErrUnavailable, err) }

// classify marks err as [store.ErrUnavailable] where another try may succeed:
// the file is locked, full, unreadable or closed, or time is over.
func classify(err error) error {
	if err == nil || errors.Is(err, store.ErrUnavailable) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) {
		return unavailable(err)
	}
	if busy(err) || ofDisk(err) {
		return unavailable(err)
	}
	switch resultCode(err) {
	case sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM:
		return unavailable(err)
	}
	if err.Error() == "sql: database is closed" || err.Error() == "sql: statement is closed" { // database/sql exports neither
		return unavailable(err)
	}
	return err
}

// busy reports whether err says that another connection holds the lock.
func busy(err error) bool {
	code := resultCode(err)
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

// ofDisk reports whether err says that the disk is full, or cannot be written.
func ofDisk(err error) bool {
	switch resultCode(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN:
		return true
	}
	return false
}

// conflict reports whether err is a broken uniqueness.
func conflict(err error) bool { return resultCode(err) == sqlite3.SQLITE_CONSTRAINT }

// resultCode returns SQLite's primary result code, 0 if err is not SQLite's.
func resultCode(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}
