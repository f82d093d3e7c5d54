package sqlitestore

import (
	"context"
	"fmt"
	"math"
	"slices"

	"pushcluster/shared/store"
)

// PutDeliveries keeps deliveries; see [store.Deliveries].
func (s *Store) PutDeliveries(ctx context.Context, records []store.Delivery) error {
	if len(records) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	records = slices.Clone(records)
	err := s.writer.do(ctx, len(records), func(t *tx) error {
		for i := range records {
			if err := putDelivery(t, &records[i]); err != nil {
				return fmt.Errorf("delivery %q of source %s: %w", records[i].ID, records[i].Source, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep deliveries: %w", err)
	}
	return nil
}

func putDelivery(t *tx, d *store.Delivery) error {
	args := []any{d.Source, d.ID, millis(d.ReceivedAt), millis(d.Until), d.Outcome, d.Settled, d.Size(), d.Detail, d.Body}
	n, err := t.exec(`INSERT INTO deliveries (source, id, received, last, until, receipts, replays, outcome, settled, size, detail, body)
		VALUES (?1, ?2, ?3, ?3, ?4, 1, 0, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (source, id) DO NOTHING`, args...)
	if err != nil || n == 1 {
		return err
	}
	n, err = t.exec(`UPDATE deliveries SET receipts = receipts + 1, last = ? WHERE source = ? AND id = ? AND settled = 1`,
		millis(d.ReceivedAt), d.Source, d.ID)
	if err != nil || n == 1 {
		return err
	}
	_, err = t.exec(`UPDATE deliveries SET receipts = receipts + 1, received = ?3, last = ?3, until = ?4, outcome = ?5, settled = ?6,
		size = ?7, detail = ?8, body = ?9 WHERE source = ?1 AND id = ?2`, args...)
	return err
}

// deliveryColumns are what scanDelivery reads, in its order, before a body.
const deliveryColumns = `source, id, received, last, until, receipts, replays, outcome, settled, detail`

func scanDelivery(scan func(...any) error, d *store.Delivery, extra ...any) error {
	var received, last, until int64
	err := scan(append([]any{&d.Source, &d.ID, &received, &last, &until, &d.Receipts, &d.Replays, &d.Outcome, &d.Settled, &d.Detail}, extra...)...)
	d.ReceivedAt, d.LastAt, d.Until = moment(received), moment(last), moment(until)
	return err
}

// ListDeliveries returns deliveries by place; see [store.Deliveries].
func (s *Store) ListDeliveries(ctx context.Context, q store.DeliveriesQuery) ([]store.Delivery, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if q.Limit <= 0 {
		q.Limit = store.DefaultDeliveries
	}
	text := `SELECT ` + deliveryColumns
	if q.Bodies {
		text += `, body`
	}
	text += ` FROM deliveries WHERE source = ?1 AND (received, id) > (?2, ?3) AND (received, id) < (?4, ?5)`
	before := int64(math.MaxInt64)
	if !q.Before.IsZero() {
		before = millis(q.Before.At)
	}
	args := []any{q.Source, millis(q.After.At), q.After.ID, before, q.Before.ID, q.Limit}
	if q.Outcome != "" {
		text += ` AND outcome = ?7`
		args = append(args, q.Outcome)
	}
	if q.Newest {
		text += ` ORDER BY received DESC, id DESC LIMIT ?6 + 0`
	} else {
		text += ` ORDER BY received, id LIMIT ?6 + 0`
	}
	var list []store.Delivery
	err := s.query(ctx, text, args, func(scan func(...any) error) (bool, error) {
		var d store.Delivery
		var extra []any
		if q.Bodies {
			extra = append(extra, &d.Body)
		}
		if err := scanDelivery(scan, &d, extra...); err != nil {
			return false, err
		}
		list = append(list, d)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list deliveries of source %s: %w", q.Source, err)
	}
	return list, nil
}

// LoadDelivery returns one delivery; see [store.Deliveries].
func (s *Store) LoadDelivery(ctx context.Context, source, id string) (store.Delivery, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var d store.Delivery
	found := false
	const text = `SELECT ` + deliveryColumns + `, body FROM deliveries WHERE source = ? AND id = ?`
	err := s.query(ctx, text, []any{source, id}, func(scan func(...any) error) (bool, error) {
		found = true
		return false, scanDelivery(scan, &d, &d.Body)
	})
	if err == nil && !found {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Delivery{}, fmt.Errorf("load delivery %q of source %s: %w", id, source, err)
	}
	return d, nil
}

// JudgeDeliveries changes what deliveries came to; see [store.Deliveries].
func (s *Store) JudgeDeliveries(ctx context.Context, records []store.Delivery) error {
	if len(records) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	records = slices.Clone(records)
	err := s.writer.do(ctx, len(records), func(t *tx) error {
		for _, d := range records {
			_, err := t.exec(`UPDATE deliveries SET outcome = ?3, settled = ?4, detail = ?5 WHERE source = ?1 AND id = ?2`,
				d.Source, d.ID, d.Outcome, d.Settled, d.Detail)
			if err != nil {
				return fmt.Errorf("delivery %q of source %s: %w", d.ID, d.Source, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("judge deliveries: %w", err)
	}
	return nil
}

// CountReplay counts a replay; see [store.Deliveries].
func (s *Store) CountReplay(ctx context.Context, source, id string) (int, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	n := 0
	err := s.writer.do(ctx, 1, func(t *tx) error {
		return t.row(`UPDATE deliveries SET replays = replays + 1 WHERE source = ? AND id = ? RETURNING replays`, []any{source, id}, &n)
	})
	if err != nil {
		return 0, fmt.Errorf("count a replay of delivery %q of source %s: %w", id, source, err)
	}
	return n, nil
}

// TrimDeliveries removes the oldest deliveries; see [store.Deliveries]. What is to
// go is found before the write, so that others need not wait for that.
func (s *Store) TrimDeliveries(ctx context.Context, source string, most int, size int64) (int, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	over := false
	var received int64 // of the newest that has to go
	var id string
	const text = `SELECT received, id, size FROM deliveries WHERE source = ? ORDER BY received DESC, id DESC`
	err := s.query(ctx, text, []any{source}, func(scan func(...any) error) (bool, error) {
		var one int64
		if err := scan(&received, &id, &one); err != nil {
			return false, err
		}
		most, size = most-1, size-one
		over = most < 0 || size < 0
		return !over, nil
	})
	removed := 0
	if err == nil && over {
		err = s.writer.do(ctx, sweepRows, func(t *tx) (err error) {
			removed, err = t.exec(`DELETE FROM deliveries WHERE source = ? AND (received, id) <= (?, ?)`, source, received, id)
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("trim deliveries of source %s: %w", source, err)
	}
	return removed, nil
}
