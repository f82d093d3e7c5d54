package store

import (
	"context"
	"errors"
	"maps"

	"pushcluster/shared/push"
)

// LoadReadable returns what load, a store's LoadMessages, has of ids. If they cannot
// be read together although the store answers, each is read alone, and those that
// are at fault come with their error in unreadable. Where the store does not answer,
// err is [ErrUnavailable].
func LoadReadable(ctx context.Context, ids []push.MessageID, load func(context.Context, []push.MessageID) (map[push.MessageID]Record, error)) (
	records map[push.MessageID]Record, unreadable map[push.MessageID]error, err error) {
	records, err = load(ctx, ids)
	if err == nil || errors.Is(err, ErrUnavailable) {
		return records, nil, err
	}
	records, unreadable = make(map[push.MessageID]Record, len(ids)), make(map[push.MessageID]error)
	for _, id := range ids {
		one, err := load(ctx, []push.MessageID{id})
		if errors.Is(err, ErrUnavailable) {
			return nil, nil, err
		}
		if err != nil {
			unreadable[id] = err
		}
		maps.Copy(records, one)
	}
	return records, unreadable, nil
}
