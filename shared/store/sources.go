package store

import (
	"context"
	"time"
)

// Sources keeps the webhook sources that were not written into a file.
type Sources interface {
	// PutSource keeps r in place of what has its name. If most others are kept,
	// the error wraps [ErrFull] and nothing changes.
	PutSource(ctx context.Context, r SourceRecord, most int) error
	// ListSources returns all sources by name.
	ListSources(ctx context.Context) ([]SourceRecord, error)
	// RemoveSource removes the source of that name and reports whether there was
	// one.
	RemoveSource(ctx context.Context, name string) (bool, error)
}

// A SourceRecord is one source as its user wrote it.
type SourceRecord struct {
	Name       string
	Definition []byte // may hold secrets
	UpdatedAt  time.Time
}
