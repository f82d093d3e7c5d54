package sqlitestore

import (
	"context"
	"database/sql"
	"errors"

	"pushcluster/shared/store"
)

// A tx runs statements on the writer's connection, inside its transaction. They
// run under no context: one that ended in the middle would interrupt the
// neighbours of its job too.
type tx struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // by their text
}

// attempt runs j in a savepoint, and undoes what it did if it fails. Then lost is
// true if that could not be done: where the disk is full or cannot be read, SQLite
// mostly rolls the whole transaction back by itself.
func (t *tx) attempt(j *job) (lost bool, err error) {
	if err := j.ctx.Err(); err != nil {
		return false, unavailable(err) // nobody waits for it any more
	}
	if err := t.control("SAVEPOINT job"); err != nil {
		return false, classify(err)
	}
	if err := j.run(t); err != nil {
		undone := errors.Join(t.control("ROLLBACK TO job"), t.control("RELEASE job"))
		if undone != nil {
			return true, unavailable(errors.Join(err, undone))
		}
		return false, classify(err)
	}
	err = t.control("RELEASE job")
	return err != nil, classify(err)
}

// control runs a statement of the transaction itself.
func (t *tx) control(text string) error {
	_, err := t.exec(text)
	return err
}

// exec runs a statement and returns how many rows it changed.
func (t *tx) exec(text string, args ...any) (int, error) {
	stmt, err := t.prepared(text)
	if err != nil {
		return 0, err
	}
	res, err := stmt.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// row scans the only row of a query into dest. Its error wraps
// [store.ErrNotFound] if there is none.
func (t *tx) row(text string, args []any, dest ...any) error {
	stmt, err := t.prepared(text)
	if err != nil {
		return err
	}
	err = stmt.QueryRowContext(context.Background(), args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return store.ErrNotFound
	}
	return err
}

// rows calls row for every row of a query.
func (t *tx) rows(text string, args []any, row func(scan func(...any) error) error) error {
	stmt, err := t.prepared(text)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *tx) prepared(text string) (*sql.Stmt, error) {
	if stmt, ok := t.stmts[text]; ok {
		return stmt, nil
	}
	stmt, err := t.conn.PrepareContext(context.Background(), text)
	if err != nil {
		return nil, err
	}
	t.stmts[text] = stmt
	return stmt, nil
}

func (t *tx) close() {
	for _, stmt := range t.stmts {
		_ = stmt.Close() // the connection goes with it
	}
}
