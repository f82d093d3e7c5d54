package registry

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
)

// reply turns JSON into what the client gives for an answer of Redis: strings,
// whole numbers, lists and nil.
func reply(text []byte) any {
	var v any
	if json.Unmarshal(text, &v) != nil {
		return string(text)
	}
	return asReply(v)
}

func asReply(v any) any {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case []any:
		for i := range v {
			v[i] = asReply(v[i])
		}
		return v
	case string:
		return v
	}
	return nil
}

// appendReply turns a JSON list into what the client gives for one item.
func appendReply(text []byte) []any {
	list, _ := reply(text).([]any)
	return list
}

func FuzzAppendReply(f *testing.F) {
	f.Add([]byte(`[1,3600000000000001,0]`))
	f.Add([]byte(`[2,3600000000000001,3600000000000000]`))
	f.Add([]byte(`[0,0,0]`))
	f.Add([]byte(`["OOM command not allowed",0,0]`))
	f.Add([]byte(`[1,9007199254740992,0]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := decodeAppended(appendReply(text))
		if err != nil {
			return
		}
		if !a.Ask && (a.Offset == 0 || a.Offset >= maxOffset || a.Prev >= a.Offset) {
			t.Errorf("decodeAppended(%s) = %+v", text, a)
		}
	})
}

func FuzzLeases(f *testing.F) {
	f.Add([]byte(`["1750000000000",["127.0.0.1:1~a","1750000015000","127.0.0.1:2~b draining","1.75e12"]]`))
	f.Add([]byte(`["1750000000000",[]]`))
	f.Add([]byte(`[1,[2,3]]`))
	f.Add([]byte(`["1",["n","NaN"]]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		leases, _, err := decodeLeases(reply(text))
		if err != nil && leases != nil {
			t.Errorf("decodeLeases(%s) = %v and %v", text, leases, err)
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add("1750000000000-3", "1749999999999-2047", string(push.AppendMessage(nil, &push.Message{ID: "k/1", Data: []byte("1"), CreatedAt: time.Unix(1, 2)}, true)), uint64(0))
	f.Add("1-2048", "0", string(push.AppendMessage(nil, &push.Message{ID: "x"}, false)), uint64(5))
	f.Add("18446744073709551615-18446744073709551615", "", "{", uint64(1))
	f.Fuzz(func(t *testing.T, id, prev, text string, floor uint64) {
		e, err := decodeEntry("c", redis.XMessage{ID: id, Values: map[string]any{"p": prev, "m": text}}, push.Offset(floor))
		if err != nil {
			return
		}
		if e.Offset >= maxOffset || e.Prev != 0 && (e.Prev >= e.Offset || e.Prev <= push.Offset(floor)) || e.Message.ID == "" {
			t.Errorf("decodeEntry(%q, %q, %q) = %+v", id, prev, text, e)
		}
		again, err := parseID(entryID(e.Offset))
		if err != nil || again != e.Offset {
			t.Errorf("offset %d became %d, %v", e.Offset, again, err)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add("1757812500000-0 5 1234 1757812500000")
	f.Add(" ")
	f.Fuzz(func(t *testing.T, text string) {
		if o, err := parseState(text); err == nil && o >= maxOffset {
			t.Errorf("parseState(%q) = %d", text, o)
		}
	})
}

func FuzzMarker(f *testing.F) {
	f.Add("12.8d7c")
	f.Add("-1.x")
	f.Add("9223372036854775808.")
	f.Fuzz(func(t *testing.T, marker string) {
		if n := markerNumber(marker); n == 0 || n < -1 {
			t.Errorf("markerNumber(%q) = %d", marker, n)
		}
	})
}

func TestDecodeAppendedRefuses(t *testing.T) {
	tests := map[string]string{
		"nothing":              `null`,
		"short":                `[1,1]`,
		"unknown deed":         `[3,2,1]`,
		"failure":              `["OOM",2,1]`,
		"offset a text":        `[1,"2",1]`,
		"offset too large":     `[1,9007199254740992,0]`,
		"offset zero":          `[1,0,0]`,
		"predecessor behind":   `[1,2,2]`,
		"predecessor negative": `[1,2,-1]`,
		"predecessor a list":   `[1,2,[]]`,
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			if a, err := decodeAppended(appendReply([]byte(text))); err == nil {
				t.Errorf("decodeAppended(%s) = %+v, want an error", text, a)
			}
		})
	}
}

func TestDecodeRoutesLeavesOut(t *testing.T) {
	got := decodeRoutes(map[string]string{"127.0.0.1:1~a": "7", "": "8", "127.0.0.1:2~b": "x"})
	if len(got) != 1 || got[0] != (Route{"127.0.0.1:1~a", 7}) {
		t.Errorf("decodeRoutes = %v, want the one route that can be one", got)
	}
}
