package registry

import (
	"fmt"
	"strconv"
	"strings"

	"pushcluster/shared/push"
)

// What the append script did with an item.
const (
	didAsk int64 = iota
	didAppend
	didFind
)

// decodeAppended reads what the append script answered for one item: what it did,
// the offset, and the one before it; or why it failed.
func decodeAppended(reply []any) (AppendedItem, error) {
	if len(reply) != itemAnswers {
		return AppendedItem{}, fmt.Errorf("%w: append answered %d values", errBadReply, len(reply))
	}
	if why, failed := reply[0].(string); failed {
		return AppendedItem{}, fmt.Errorf("redis: %.200s", why)
	}
	what, ok1 := reply[0].(int64)
	offset, ok2 := reply[1].(int64)
	prev, ok3 := reply[2].(int64)
	if !ok1 || !ok2 || !ok3 || what < didAsk || what > didFind {
		return AppendedItem{}, fmt.Errorf("%w: append answered %.80q", errBadReply, fmt.Sprint(reply...))
	}
	if what == didAsk {
		return AppendedItem{Ask: true}, nil
	}
	if prev < 0 || offset <= prev || offset >= maxOffset {
		return AppendedItem{}, fmt.Errorf("%w: offset %d, predecessor %d", errBadReply, offset, prev)
	}
	return AppendedItem{Offset: push.Offset(offset), Prev: push.Offset(prev), Repeat: what == didFind}, nil
}

// decodeRoutes reads registrations by node; a route that cannot be one is left
// out.
func decodeRoutes(found map[string]string) []Route {
	routes := make([]Route, 0, len(found))
	for node, number := range found {
		registration, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || node == "" {
			continue
		}
		routes = append(routes, Route{push.NodeID(node), registration})
	}
	return routes
}
