package sqlitestore

import (
	"context"
	"fmt"
)

// schemaVersion is PRAGMA user_version of the schema below.
const schemaVersion = 1

// Times are milliseconds since 1970, 0 for none. A message's recipients come
// last in its row, and its data before them: reading an inbox then does not
// touch the pages that hold recipients.
var schema = []string{
	`CREATE TABLE messages (
		id          TEXT    NOT NULL PRIMARY KEY,
		fingerprint TEXT    NOT NULL,
		created     INTEGER NOT NULL,
		expires     INTEGER NOT NULL,
		deliver     INTEGER NOT NULL,
		event       TEXT    NOT NULL,
		collapse    TEXT    NOT NULL,
		trace       TEXT    NOT NULL,
		data        BLOB,
		recipients  BLOB    NOT NULL
	)`,
	`CREATE INDEX messages_expires ON messages (expires)`,

	`CREATE TABLE inbox (
		channel    TEXT    NOT NULL,
		offset     INTEGER NOT NULL,
		message    TEXT    NOT NULL,
		collapse   TEXT,
		expires    INTEGER NOT NULL,
		superseded INTEGER NOT NULL DEFAULT 0,
		PRIMARY KEY (channel, offset)
	) WITHOUT ROWID`,
	`CREATE UNIQUE INDEX inbox_message ON inbox (message, channel)`,
	`CREATE INDEX inbox_collapse ON inbox (channel, collapse, offset) WHERE collapse IS NOT NULL AND superseded = 0`,
	`CREATE INDEX inbox_expires ON inbox (expires)`,

	`CREATE TABLE outbox (
		message  TEXT    NOT NULL PRIMARY KEY,
		due      INTEGER NOT NULL,
		attempts INTEGER NOT NULL,
		reason   TEXT    NOT NULL,
		claimed  INTEGER NOT NULL DEFAULT 0
	) WITHOUT ROWID`,
	`CREATE INDEX outbox_due ON outbox (due, claimed)`,

	`CREATE TABLE cursors (
		user         TEXT    NOT NULL,
		device       TEXT    NOT NULL,
		channel      TEXT    NOT NULL,
		received     INTEGER NOT NULL,
		acknowledged INTEGER NOT NULL,
		updated      INTEGER NOT NULL,
		PRIMARY KEY (user, device, channel)
	) WITHOUT ROWID`,
	`CREATE INDEX cursors_updated ON cursors (updated)`,

	`CREATE TABLE control (
		name  TEXT NOT NULL PRIMARY KEY,
		value TEXT NOT NULL
	) WITHOUT ROWID`,

	fmt.Sprintf(`PRAGMA user_version = %d`, schemaVersion),
}

// Prepare creates the tables, unless this or another process did. A file
// written by a newer version of this program is an error.
func (s *Store) Prepare(ctx context.Context) error {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	err := s.writer.do(ctx, 1, func(t *tx) error {
		var version int
		if err := t.row(`PRAGMA user_version`, nil, &version); err != nil {
			return err
		}
		switch {
		case version == schemaVersion:
			return nil
		case version != 0:
			return fmt.Errorf("the file has schema version %d and this program knows %d: use a newer program or another file",
				version, schemaVersion)
		}
		for _, text := range schema {
			// Not prepared: each runs once in a file's life.
			if _, err := t.conn.ExecContext(context.Background(), text); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("prepare the store: %w", err)
	}
	return nil
}
