package node

import (
	"testing"
)

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
