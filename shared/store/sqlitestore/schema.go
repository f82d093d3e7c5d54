package sqlitestore

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// schemaVersion is PRAGMA user_version of the schema below: how many steps it
// has.
var schemaVersion = len(schema)

// schema holds the steps that make the schema, each on top of those before it.
// A file remembers how many it has, so a step that was released is not changed
// any more.
//
// Times are milliseconds since 1970, 0 for none. A message's recipients come
// last in its row, and its data before them: reading an inbox then does not
// touch the pages that hold recipients.
var schema = [][]string{{
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
}, {
	// What waits in the outbox has state 0, what is parked 1, what is cancelled
	// 2: see store.OutboxState.
	`ALTER TABLE outbox ADD COLUMN state   INTEGER NOT NULL DEFAULT 0`,
	`ALTER TABLE outbox ADD COLUMN changed INTEGER NOT NULL DEFAULT 0`,
	`ALTER TABLE outbox ADD COLUMN until   INTEGER NOT NULL DEFAULT 0`,
	`DROP INDEX outbox_due`,
	`CREATE INDEX outbox_due ON outbox (due, claimed) WHERE state = 0`,
	`CREATE INDEX outbox_parked ON outbox (changed, message) WHERE state = 1`,
	`CREATE INDEX outbox_until ON outbox (until) WHERE state > 0`,

	`ALTER TABLE cursors ADD COLUMN start INTEGER NOT NULL DEFAULT 0`,
	`CREATE INDEX cursors_channel ON cursors (channel, user, device)`,

	`CREATE TABLE spared (
		channel TEXT    NOT NULL,
		user    TEXT    NOT NULL,
		device  TEXT    NOT NULL,
		last    INTEGER NOT NULL,
		first   INTEGER NOT NULL,
		expires INTEGER NOT NULL,
		PRIMARY KEY (channel, user, device, last, first)
	) WITHOUT ROWID`,
	`CREATE INDEX spared_expires ON spared (expires)`,

	`CREATE TABLE revocations (
		user  TEXT    NOT NULL,
		token TEXT    NOT NULL,
		at    INTEGER NOT NULL,
		until INTEGER NOT NULL,
		PRIMARY KEY (user, token)
	) WITHOUT ROWID`,
	`CREATE INDEX revocations_until ON revocations (until)`,
}, {
	`CREATE TABLE sources (
		name       TEXT    NOT NULL PRIMARY KEY,
		definition BLOB    NOT NULL,
		updated    INTEGER NOT NULL
	) WITHOUT ROWID`,
}, {
	`CREATE TABLE deliveries (
		source   TEXT    NOT NULL,
		id       TEXT    NOT NULL,
		received INTEGER NOT NULL,
		last     INTEGER NOT NULL,
		until    INTEGER NOT NULL,
		receipts INTEGER NOT NULL,
		replays  INTEGER NOT NULL,
		outcome  TEXT    NOT NULL,
		settled  INTEGER NOT NULL,
		size     INTEGER NOT NULL,
		detail   BLOB,
		body     BLOB,
		PRIMARY KEY (source, id)
	)`,
	`CREATE INDEX deliveries_place ON deliveries (source, received, id, size)`,
	`CREATE INDEX deliveries_outcome ON deliveries (source, outcome, received, id)`,
	`CREATE INDEX deliveries_until ON deliveries (until)`,
}, {
	// An ordered entry of the outbox has a sequence, others have 0; channels is a
	// JSON array. outbox_channels has its channels for as long as it waits.
	`ALTER TABLE outbox ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0`,
	`ALTER TABLE outbox ADD COLUMN channels TEXT    NOT NULL DEFAULT '[]'`,
	`DROP INDEX outbox_due`,
	`CREATE INDEX outbox_due ON outbox (due, claimed) WHERE state = 0 AND sequence = 0`,
	`CREATE INDEX outbox_sequence ON outbox (sequence, due, claimed) WHERE state = 0 AND sequence > 0`,
	`CREATE TABLE outbox_channels (
		channel  TEXT    NOT NULL,
		sequence INTEGER NOT NULL,
		PRIMARY KEY (channel, sequence)
	) WITHOUT ROWID`,
}, {
	// What waits has state 0, what is parked 1, what has ended 2: see
	// store.CallbackState.
	`CREATE TABLE callbacks (
		message  TEXT    NOT NULL PRIMARY KEY,
		source   TEXT    NOT NULL,
		state    INTEGER NOT NULL,
		due      INTEGER NOT NULL,
		attempts INTEGER NOT NULL,
		since    INTEGER NOT NULL,
		until    INTEGER NOT NULL,
		claimed  INTEGER NOT NULL DEFAULT 0,
		claim    TEXT    NOT NULL DEFAULT '',
		reason   TEXT    NOT NULL,
		progress BLOB
	)`,
	`CREATE INDEX callbacks_due ON callbacks (due, claimed) WHERE state = 0`,
	`CREATE INDEX callbacks_parked ON callbacks (due, message) WHERE state = 1`,
	`CREATE INDEX callbacks_until ON callbacks (until)`,
}}

// upgradeTime bounds what brings a file of an older version up to date, instead
// of the store's own deadline: to index a large one takes longer than any call.
const upgradeTime = 10 * time.Minute

// createTime is what a new file has at least: to make all tables and indexes takes
// longer than a call does.
const createTime = time.Minute

// Prepare creates the tables, unless this or another process did, and brings
// those of an older version up to date, within ten minutes. A file that is up to
// date is not written to. One written by a newer version of this program is an
// error.
func (s *Store) Prepare(ctx context.Context) error {
	if err := s.prepare(ctx, schemaVersion); err != nil {
		return fmt.Errorf("prepare the store: %w", err)
	}
	return nil
}

// prepare takes the steps of the schema that the file lacks, up to a version.
func (s *Store) prepare(ctx context.Context, upTo int) error {
	version, err := s.version(ctx)
	if err != nil || version == upTo {
		return err
	}
	limit := max(s.cfg.Timeout, createTime)
	if version > 0 {
		limit = upgradeTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.writer.do(ctx, 1, func(t *tx) error {
		var version int
		if err := t.row(`PRAGMA user_version`, nil, &version); err != nil {
			return err
		}
		if version > schemaVersion || version < 0 {
			return fmt.Errorf("the file has schema version %d and this program knows %d: use a newer program or another file",
				version, schemaVersion)
		}
		for ; version < upTo; version++ {
			for _, text := range append(slices.Clone(schema[version]), fmt.Sprintf(`PRAGMA user_version = %d`, version+1)) {
				// Not prepared: each runs once in a file's life.
				if _, err := t.conn.ExecContext(context.Background(), text); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// version returns how many steps of the schema the file has.
func (s *Store) version(ctx context.Context) (version int, err error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	err = s.queryRow(ctx, `PRAGMA user_version`, nil, &version)
	return version, err
}
