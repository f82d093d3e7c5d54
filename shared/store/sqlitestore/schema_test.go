package sqlitestore

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// TestPrepareOlderFile makes a file as each version of the schema left it and
// brings it up to date: what it holds stays, and is of use.
func TestPrepareOlderFile(t *testing.T) {
	for version := 1; version <= schemaVersion; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			s, err := Open(filepath.Join(t.TempDir(), "store.db"), Config{Timeout: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.prepare(t.Context(), version); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := s.deadline(t.Context())
			defer cancel()
			err = s.writer.do(ctx, 1, func(t *tx) error {
				_, err := t.conn.ExecContext(context.Background(),
					`INSERT INTO outbox (message, due, attempts, reason) VALUES ('m', 1, 0, 'old')`)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Prepare(t.Context()); err != nil {
				t.Fatalf("Prepare: %v", err)
			}
			if done, err := s.CancelOutbox(t.Context(), "m", time.Now(), time.Now()); err != nil || !done {
				t.Errorf("CancelOutbox = %v, %v, want what the file held cancelled", done, err)
			}
			got, err := s.LoadOutbox(t.Context(), []push.MessageID{"m"})
			if err != nil || got["m"].State != store.Cancelled || got["m"].Reason != "old" {
				t.Errorf("LoadOutbox = %+v, %v", got, err)
			}
		})
	}
}
