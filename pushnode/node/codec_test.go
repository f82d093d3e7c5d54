package node

import (
	"errors"
	"strings"
	"testing"
)

// What a client nests in a frame costs the decoder a stack that grows with it.
func TestNestingOfCommands(t *testing.T) {
	brackets := func(n int) string { return strings.Repeat("[", n) }
	command := func(data string) string { return `{"id":1,"rpc":{"method":"ack","data":` + data + `}}` }
	nested := func(n int) string { return command(brackets(n) + strings.Repeat("]", n)) }
	tests := map[string]struct {
		frame string
		deep  bool
	}{
		"as deep as may be":               {nested(maxNesting - 2), false},
		"deeper":                          {nested(maxNesting - 1), true},
		"objects":                         {command(strings.Repeat(`{"a":`, maxNesting)), true},
		"in a field that is none":         {`{"x":` + brackets(60_000), true},
		"side by side":                    {command("[" + strings.Repeat("[],", 10_000) + "{}]"), false},
		"in a string":                     {command(`"` + brackets(10_000) + `"`), false},
		"in a string, behind a quote":     {command(`"\"` + brackets(10_000) + `"`), false},
		"behind a string":                 {command(`["\\",` + brackets(maxNesting)), true},
		"in many commands":                {strings.Repeat(nested(10)+"\n", 100), false},
		"in the second command":           {command("1") + "\n" + nested(maxNesting), true},
		"behind a string that has no end": {`{"x":"` + "\n" + nested(maxNesting), true},
		"behind a backslash at an end":    {`{"x":"\` + "\n" + nested(maxNesting), true},
		"behind ends of nothing":          {strings.Repeat("]", 1000) + "\n" + nested(maxNesting), true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := codecJSON.decodeCommands([]byte(tt.frame)); errors.Is(err, errNesting) != tt.deep {
				t.Errorf("decodeCommands(%.80q, %d bytes) = %v, want it refused as nested: %v", tt.frame, len(tt.frame), err, tt.deep)
			}
		})
	}
}

// FuzzDecodeCommands: whatever a client sends in a frame, decoding ends, and a
// frame that counts holds a bounded number of commands.
func FuzzDecodeCommands(f *testing.F) {
	for _, frame := range []string{
		`{"id":1,"connect":{"token":"t","name":"js"}}` + "\n" + `{"id":2,"subscribe":{"channel":"news","recoverable":true,"flag":1}}`,
		`{}`, "{}\n", "\n\n", `[1,2`, `{"id":-1}`, `{"id":1,"rpc":{"method":"ack","data":{"channel":"#42","offset":1e400}}}`,
		`{"id":4294967296}`, "{\"id\":1}\n\n{\"id\":2}",
	} {
		f.Add(true, []byte(frame))
	}
	for _, frame := range []string{"\x00", "\x02\x08\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x05\x08\x01\x22\x00"} {
		f.Add(false, []byte(frame))
	}
	f.Fuzz(func(t *testing.T, isJSON bool, frame []byte) {
		c := codecProtobuf
		if isJSON {
			c = codecJSON
		}
		commands, err := c.decodeCommands(frame)
		if err == nil && (len(commands) == 0 || len(commands) > maxCommands) {
			t.Errorf("decodeCommands(%q) = %d commands and no error", frame, len(commands))
		}
		if err != nil && commands != nil {
			t.Errorf("decodeCommands(%q) = %d commands and %v", frame, len(commands), err)
		}
		for _, cmd := range commands {
			if cmd == nil {
				t.Errorf("decodeCommands(%q) holds a nil command", frame)
			}
		}
	})
}
