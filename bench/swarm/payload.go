package swarm

import (
	"bytes"
	"strconv"
	"time"
)

// PayloadSize is how many bytes of data every message of the benchmark has.
const PayloadSize = 128

// sentKey comes before the time that a payload was sent. It is looked for in
// whatever a server wraps around a payload, so it may occur nowhere else.
var sentKey = []byte(`"sent":`)

// AppendPayload appends a JSON object of [PayloadSize] bytes that says when it
// was sent.
func AppendPayload(dst []byte, at time.Time) []byte {
	begin := len(dst)
	dst = append(dst, '{')
	dst = append(dst, sentKey...)
	dst = strconv.AppendInt(dst, at.UnixNano(), 10)
	dst = append(dst, `,"pad":"`...)
	for len(dst)-begin < PayloadSize-2 {
		dst = append(dst, 'x')
	}
	return append(dst, '"', '}')
}

// eachSent calls found with the time in every payload that b holds, in
// nanoseconds since 1970, and reports how many there are.
func eachSent(b []byte, found func(nano int64)) int {
	count := 0
	for {
		i := bytes.Index(b, sentKey)
		if i < 0 {
			return count
		}
		b = b[i+len(sentKey):]
		nano, _ := leadingInt(b)
		found(nano)
		count++
	}
}

// leadingInt reads the digits that b begins with; ok is false if there are none
// or too many.
func leadingInt(b []byte) (n int64, ok bool) {
	const most = 18 + 1
	for i, c := range b {
		if c < '0' || c > '9' {
			return n, i > 0
		}
		if i == most {
			return 0, false
		}
		n = n*10 + int64(c-'0')
		if n < 0 {
			return 0, false
		}
	}
	return n, len(b) > 0
}
