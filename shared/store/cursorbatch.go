package store

import (
	"context"
	"time"

	"pushcluster/shared/push"
)

// A CursorBatch is cursor writes on their way from a node to Dispatch: POST
// /v1/dispatch/cursors. On SQLite nodes send them there instead of writing
// themselves, because a process that is stopped while it holds SQLite's write
// lock stalls every other, and nodes are the processes that get stopped.
type CursorBatch struct {
	Spared  []Spared         `json:"spared,omitempty"`
	Advance []Cursor         `json:"advance,omitempty"`
	Touch   []Cursor         `json:"touch,omitempty"`
	Remove  []CursorsRemoved `json:"remove,omitempty"`
	Forget  []DevicesQuiet   `json:"forget,omitempty"`
}

// CursorsRemoved is what a call of RemoveCursors names.
type CursorsRemoved struct {
	User     push.UserID    `json:"user"`
	Device   push.Device    `json:"device"`
	Channels []push.Channel `json:"channels"`
}

// DevicesQuiet is what a call of ForgetDevices names.
type DevicesQuiet struct {
	User    push.UserID   `json:"user"`
	Devices []push.Device `json:"devices"`
	Quiet   time.Time     `json:"quiet"`
}

// Write writes the batch to c: exceptions before the cursors that pass them.
// After an error part of it may be written; all of it may be written again.
func (b *CursorBatch) Write(ctx context.Context, c Cursors) error {
	if len(b.Spared) > 0 {
		if err := c.Spare(ctx, b.Spared); err != nil {
			return err
		}
	}
	if len(b.Advance) > 0 {
		if err := c.AdvanceCursors(ctx, b.Advance); err != nil {
			return err
		}
	}
	if len(b.Touch) > 0 {
		if err := c.TouchCursors(ctx, b.Touch); err != nil {
			return err
		}
	}
	for _, r := range b.Remove {
		if err := c.RemoveCursors(ctx, r.User, r.Device, r.Channels); err != nil {
			return err
		}
	}
	for _, f := range b.Forget {
		if err := c.ForgetDevices(ctx, f.User, f.Devices, f.Quiet); err != nil {
			return err
		}
	}
	return nil
}
