package registry

import (
	"fmt"
	"strconv"
	"strings"

	"pushcluster/shared/push"
)

// decodeAppended reads the answer of the append script.
func decodeAppended(reply any) (AppendedItem, error) {
	parts, ok := reply.([]any)
	if ok && len(parts) == 2 && parts[0] == "error" {
		return AppendedItem{}, fmt.Errorf("redis: %.200s", fmt.Sprint(parts[1]))
	}
	if !ok || len(parts) != 4 {
		return AppendedItem{}, fmt.Errorf("%w: append answered %T", errBadReply, reply)
	}
	var a AppendedItem
	var err error
	switch what := parts[0]; what {
	case "ask":
		return AppendedItem{Ask: true}, nil
	case "repeat":
		a.Repeat = true
	case "new":
	default:
		return AppendedItem{}, fmt.Errorf("%w: append answered %.40q", errBadReply, fmt.Sprint(what))
	}
	if a.Offset, err = parseID(parts[1]); err != nil {
		return AppendedItem{}, err
	}
	if a.Prev, err = parsePrev(parts[2]); err != nil {
		return AppendedItem{}, err
	}
	if a.Offset <= a.Prev {
		return AppendedItem{}, fmt.Errorf("%w: predecessor %d of %d", errBadReply, a.Prev, a.Offset)
	}
	a.Routes, err = decodeRoutes(parts[3])
	return a, err
}

// decodeRoutes reads node, registration, node, registration …; a route that
// cannot be one is left out.
func decodeRoutes(reply any) ([]Route, error) {
	flat, ok := reply.([]any)
	if !ok || len(flat)%2 != 0 {
		return nil, fmt.Errorf("%w: routes are a %T", errBadReply, reply)
	}
	var routes []Route
	for i := 0; i < len(flat); i += 2 {
		node, ok1 := flat[i].(string)
		number, ok2 := flat[i+1].(string)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("%w: a route is a %T and a %T", errBadReply, flat[i], flat[i+1])
		}
		registration, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || node == "" {
			continue
		}
		routes = append(routes, Route{push.NodeID(node), registration})
	}
	return routes, nil
}
