package collectfn

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
)

// fingerprint returns the SHA-256, in hexadecimal, of what the sender asked
// for, in a form that does not depend on how it was written: space, the order
// of fields and of recipients, and escapes in strings do not count; numbers
// count as they are spelled. A deliver_at counts also where it has passed: a
// repeat may come later than that.
//
// Stored fingerprints are compared with those of later versions of this
// program, so the form must not change.
func fingerprint(d *draft) string {
	h := sha256.New()
	h.Write([]byte("pushcluster message v1\n"))
	writeCount(h, len(d.To.Users))
	for _, u := range d.To.Users {
		writeText(h, []byte(u))
	}
	writeCount(h, len(d.To.Channels))
	for _, c := range d.To.Channels {
		writeText(h, []byte(c))
	}
	if d.To.All {
		writeCount(h, 1)
	} else {
		writeCount(h, 0)
	}
	writeText(h, []byte(d.Event))
	writeText(h, []byte(d.CollapseKey))
	writeCount(h, int(d.ttl.Milliseconds()))
	if d.due.IsZero() {
		writeCount(h, 0)
	} else {
		writeCount(h, int(d.due.UnixMilli()))
	}
	writeText(h, canonical(d.Data))
	return hex.EncodeToString(h.Sum(nil))
}

// writeText writes b behind its length, so that no two lists of texts write the
// same bytes.
func writeText(h hash.Hash, b []byte) {
	writeCount(h, len(b))
	h.Write(b)
}

func writeCount(h hash.Hash, n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

// canonical returns valid JSON with the fields of objects sorted; of a field
// that occurs twice the last one counts.
func canonical(data []byte) []byte {
	var v any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return data // not reached: data was decoded before
	}
	sorted, err := json.Marshal(v)
	if err != nil {
		return data // likewise
	}
	return sorted
}
