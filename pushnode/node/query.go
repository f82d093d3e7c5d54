package node

import (
	"net/url"
	"strings"
)

// A query is what the query of a handshake says.
type query struct {
	device, token string
	framePing     bool
	protobuf      bool
}

// readQuery reads the query of a URL as [url.ParseQuery] does, of which it takes
// what a handshake may say: of a name that occurs twice the first value, and
// nothing of a pair that is malformed.
func readQuery(raw string) query {
	var q query
	var seen [len(queryNames)]bool
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" || strings.Contains(pair, ";") {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := unescape(name)
		if err != nil {
			continue
		}
		i := queryName(name)
		if i < 0 || seen[i] {
			continue
		}
		if value, err = unescape(value); err != nil {
			continue
		}
		seen[i] = true
		q.set(i, value)
	}
	return q
}

// The names that a query may have.
const (
	queryDevice = iota
	queryToken
	queryFramePing
	queryFormat
	queryProtocol
)

var queryNames = [...]string{
	queryDevice: "device", queryToken: "token", queryFramePing: "cf_ws_frame_ping_pong",
	queryFormat: "format", queryProtocol: "cf_protocol",
}

func queryName(name string) int {
	for i, known := range queryNames {
		if name == known {
			return i
		}
	}
	return -1
}

func (q *query) set(name int, value string) {
	switch name {
	case queryDevice:
		q.device = value
	case queryToken:
		q.token = value
	case queryFramePing:
		q.framePing = value == "true"
	case queryFormat, queryProtocol:
		q.protobuf = q.protobuf || value == "protobuf"
	}
}

// unescape is [url.QueryUnescape], where that has anything to do.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, nil
	}
	return url.QueryUnescape(s)
}
