package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"
)

// What a client nests in a frame costs the decoder a stack that grows with it.
func TestNestedJSON(t *testing.T) {
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

func TestNestedProtobuf(t *testing.T) {
	filters := func(n int) *protocol.FilterNode {
		var f *protocol.FilterNode
		for range n {
			in := &protocol.FilterNode{Op: "and"}
			if f != nil {
				in.Nodes = []*protocol.FilterNode{{Key: "beside"}, f}
			}
			f = in
		}
		return f
	}
	subscribe := func(n int) *protocol.Command {
		return &protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "news", Tf: filters(n)}}
	}
	data := protocol.Raw(bytes.Repeat([]byte{fieldNodes<<3 | 2, 0x7f}, 1000)) // looks like filters
	tests := map[string]struct {
		commands []*protocol.Command
		deep     bool
	}{
		"as deep as may be":     {[]*protocol.Command{subscribe(maxNesting)}, false},
		"deeper":                {[]*protocol.Command{subscribe(maxNesting + 1)}, true},
		"in the second command": {[]*protocol.Command{subscribe(1), subscribe(5000)}, true},
		"many commands":         {[]*protocol.Command{subscribe(5), subscribe(maxNesting), subscribe(maxNesting)}, false},
		"data": {[]*protocol.Command{{Id: 1, Connect: &protocol.ConnectRequest{Token: "t", Data: data}},
			{Id: 2, Rpc: &protocol.RPCRequest{Method: "ack", Data: data}}}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var frame []byte
			for _, cmd := range tt.commands {
				b, err := cmd.MarshalVT()
				if err != nil {
					t.Fatal(err)
				}
				frame = append(binary.AppendUvarint(frame, uint64(len(b))), b...)
			}
			if _, err := codecProtobuf.decodeCommands(frame); errors.Is(err, errNesting) != tt.deep {
				t.Errorf("decodeCommands(%d bytes) = %v, want it refused as nested: %v", len(frame), err, tt.deep)
			}
		})
	}
}

// FuzzNesting: what is let through is decoded without going deep: what package
// protocol makes of it has no more filters in one another than may be.
func FuzzNesting(f *testing.F) {
	deep := []byte{}
	for range 2 * maxNesting {
		deep = append(binary.AppendUvarint([]byte{fieldNodes<<3 | 2}, uint64(len(deep))), deep...)
	}
	for _, number := range []uint64{fieldFilter, fieldSubscribe} {
		deep = append(binary.AppendUvarint([]byte{byte(number<<3 | 2)}, uint64(len(deep))), deep...)
	}
	f.Add(append(binary.AppendUvarint(nil, uint64(len(deep))), deep...))
	f.Fuzz(func(t *testing.T, frame []byte) {
		commands, err := codecProtobuf.decodeCommands(frame)
		if err != nil {
			return
		}
		for _, cmd := range commands {
			if depth := filterDepth(cmd.GetSubscribe().GetTf()); depth > maxNesting {
				t.Errorf("decodeCommands(%x) has filters %d deep", frame, depth)
			}
		}
	})
}

func filterDepth(f *protocol.FilterNode) int {
	if f == nil {
		return 0
	}
	depth := 0
	for _, n := range f.Nodes {
		depth = max(depth, filterDepth(n))
	}
	return depth + 1
}
