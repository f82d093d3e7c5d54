package registry

import (
	"encoding/json"
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

// encodeMessage returns how m is kept in a log: as JSON without recipients,
// and without data if that is too much for what it is appended to.
func encodeMessage(m *push.Message, withData bool) ([]byte, error) {
	bare := *m
	bare.To = push.Recipients{}
	if !withData {
		bare.Data = nil
	}
	b, err := json.Marshal(&bare)
	if err != nil {
		return nil, fmt.Errorf("encode message %s: %w", m.ID, err)
	}
	return b, nil
}

// decodeEntry reads one entry of a channel's log in a term with that floor. A
// predecessor at or below the floor counts as none.
func decodeEntry(c push.Channel, x redis.XMessage, floor push.Offset) (push.Entry, error) {
	offset, err := parseID(x.ID)
	if err != nil {
		return push.Entry{}, err
	}
	prev, err := parseOffset(x.Values["p"])
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
	if err := json.Unmarshal([]byte(text), m); err != nil {
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
func parseID(id string) (push.Offset, error) {
	ms, seq, _ := strings.Cut(id, "-")
	m, err1 := strconv.ParseUint(ms, 10, 64)
	s, err2 := strconv.ParseUint(seq, 10, 64)
	if err1 != nil || err2 != nil || m >= maxOffset/push.OffsetsPerMilli || s >= push.OffsetsPerMilli {
		return 0, fmt.Errorf("%w: entry id %.40q", errBadReply, id)
	}
	return push.Offset(m*push.OffsetsPerMilli + s), nil
}

func parseOffset(v any) (push.Offset, error) {
	s, ok := v.(string)
	if !ok {
		return 0, fmt.Errorf("%w: offset is a %T", errBadReply, v)
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n >= maxOffset {
		return 0, fmt.Errorf("%w: offset %.40q", errBadReply, s)
	}
	return push.Offset(n), nil
}

// parseLast reads the offset in what push:{ch}:last holds.
func parseLast(s string) (push.Offset, error) {
	offset, _, _ := strings.Cut(s, " ")
	return parseOffset(offset)
}
