package registry

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
)

var errBadReply = errors.New("redis answered something unexpected")

// maxOffset is the first number that cannot be an offset.
const maxOffset = 1 << 53

// decodeEntry reads one entry of a channel's log in a term with that floor. A
// predecessor at or below the floor counts as none.
func decodeEntry(c push.Channel, x redis.XMessage, floor push.Offset) (push.Entry, error) {
	offset, err := parseID(x.ID)
	if err != nil {
		return push.Entry{}, err
	}
	prev, err := parsePrev(x.Values["p"])
	if err != nil {
		return push.Entry{}, err
	}
	if prev >= offset {
		return push.Entry{}, fmt.Errorf("%w: predecessor %d of %d", errBadReply, prev, offset)
	}
	if prev <= floor {
		prev = 0
	}
	text, ok := x.Values["m"].(string)
	if !ok {
		return push.Entry{}, fmt.Errorf("%w: entry %s without message", errBadReply, x.ID)
	}
	m := new(push.Message)
	if err := push.DecodeMessage([]byte(text), m); err != nil {
		return push.Entry{}, fmt.Errorf("%w: entry %s: %w", errBadReply, x.ID, err)
	}
	if m.ID == "" {
		return push.Entry{}, fmt.Errorf("%w: entry %s without message id", errBadReply, x.ID)
	}
	return push.Entry{Channel: c, Offset: offset, Prev: prev, Message: m}, nil
}

// entryID returns the stream id of an offset.
func entryID(o push.Offset) string {
	return strconv.FormatUint(uint64(o/push.OffsetsPerMilli), 10) + "-" +
		strconv.FormatUint(uint64(o%push.OffsetsPerMilli), 10)
}

// parseID returns the offset of a stream id.
func parseID(v any) (push.Offset, error) {
	id, ok := v.(string)
	if !ok {
		return 0, fmt.Errorf("%w: entry id is a %T", errBadReply, v)
	}
	ms, seq, _ := strings.Cut(id, "-")
	m, err1 := strconv.ParseUint(ms, 10, 64)
	s, err2 := strconv.ParseUint(seq, 10, 64)
	if err1 != nil || err2 != nil || m >= maxOffset/push.OffsetsPerMilli || s >= push.OffsetsPerMilli {
		return 0, fmt.Errorf("%w: entry id %.40q", errBadReply, id)
	}
	return push.Offset(m*push.OffsetsPerMilli + s), nil
}

// parsePrev returns the offset of a stream id, or 0 where it is "0".
func parsePrev(v any) (push.Offset, error) {
	if v == "0" {
		return 0, nil
	}
	return parseID(v)
}

// parseState reads the newest offset in what push:{ch}:seen holds of its log.
func parseState(s string) (push.Offset, error) {
	id, _, _ := strings.Cut(s, " ")
	return parseID(id)
}
