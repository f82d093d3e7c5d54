package centrifugo

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// A Command is one thing that is asked for. Exactly one of Err and the commands
// below it is set, but for info, which says nothing.
type Command struct {
	ID     uint32 // to be repeated in the reply; 0: none
	Method string // one of those of this package, "unknown" for any other

	Err         *Error // why it cannot be carried out
	Publish     *Publish
	Disconnect  *push.DisconnectRequest
	Subscribe   *push.SubscribeRequest
	Unsubscribe *push.UnsubscribeRequest
}

// The methods that are carried out.
const (
	MethodPublish     = "publish"
	MethodBroadcast   = "broadcast"
	MethodDisconnect  = "disconnect"
	MethodSubscribe   = "subscribe"
	MethodUnsubscribe = "unsubscribe"
	MethodInfo        = "info"
	methodUnknown     = "unknown"
)

// decoders are how the parameters of each method are read.
var decoders = map[string]func(params []byte, c *Command) *Error{
	MethodPublish:     decodePublish,
	MethodBroadcast:   decodeBroadcast,
	MethodDisconnect:  decodeDisconnect,
	MethodSubscribe:   decodeSubscribe,
	MethodUnsubscribe: decodeUnsubscribe,
	MethodInfo:        decodeInfo,
}

// notHere are the methods that Centrifugo has and that are not available here.
var notHere = []string{"presence", "presence_stats", "history", "history_remove", "channels", "rpc", "refresh", "connections"}

// Decode reads one command of the method with these parameters, a JSON object.
// What is wrong with it is in the command.
func Decode(method string, params []byte) Command {
	c := Command{Method: method}
	decode, ok := decoders[method]
	switch {
	case ok:
		c.Err = decode(params, &c)
	case slices.Contains(notHere, method):
		c.Err = NewError(CodeNotAvailable, "%s", method)
	default:
		c.Method = methodUnknown
		c.Err = NewError(CodeMethodNotFound, "%s", known())
	}
	return c
}

// known says which methods there are.
func known() string {
	return "there are " + strings.Join(slices.Sorted(maps.Keys(decoders)), ", ")
}

// DecodeLines reads the commands of a body in the bare form, at most most of
// them. An error means that none of them counts: it is not JSON throughout, or
// there are none or too many.
func DecodeLines(body []byte, most int) ([]Command, *Error) {
	type line struct {
		ID     uint32          `json:"id"`
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	var commands []Command
	for {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, NewError(CodeBadRequest, "command %d is not JSON", len(commands)+1)
		}
		if len(commands) == most {
			return nil, NewError(CodeLimitExceeded, "more than %d commands", most)
		}
		var l line
		if p := serve.DecodeBytes(raw, &l); p != nil {
			return nil, NewError(CodeBadRequest, "command %d: %s", len(commands)+1, p.Detail)
		}
		c := Decode(strings.ToLower(l.Method), l.Params)
		c.ID = l.ID
		commands = append(commands, c)
	}
	if len(commands) == 0 {
		return nil, NewError(CodeBadRequest, "the body is empty")
	}
	return commands, nil
}

// DecodeBatch reads the commands of a batch, at most most of them. An error
// means that none of them counts.
func DecodeBatch(body []byte, most int) ([]Command, *Error) {
	var batch struct {
		Commands []map[string]json.RawMessage `json:"commands"`
		Parallel bool                         `json:"parallel"` // they are run in order all the same
	}
	if p := serve.DecodeBytes(body, &batch); p != nil {
		return nil, OfProblem(p)
	}
	if len(batch.Commands) > most {
		return nil, NewError(CodeLimitExceeded, "more than %d commands", most)
	}
	commands := make([]Command, len(batch.Commands))
	for i, members := range batch.Commands {
		if len(members) > 1 { // some libraries write out what is not there
			maps.DeleteFunc(members, func(_ string, params json.RawMessage) bool { return string(params) == "null" })
		}
		if len(members) != 1 {
			commands[i] = Command{Method: methodUnknown, Err: NewError(CodeBadRequest, "a command is an object with one member, its method")}
			continue
		}
		for method, params := range members {
			commands[i] = Decode(method, params)
		}
	}
	return commands, nil
}

// read decodes the parameters of a command, an object without unknown fields.
func read(params []byte, into any) *Error {
	detail := ""
	if trimmed := bytes.TrimLeft(params, " \t\r\n"); len(trimmed) > 0 && trimmed[0] != '{' {
		detail = "the parameters must be an object"
	} else if p := serve.DecodeBytes(params, into); p != nil {
		detail = p.Detail
	} else {
		return nil
	}
	err := NewError(CodeBadRequest, "%s", detail)
	err.Malformed = true
	return err
}

// whole returns nil if none of names, which were read of params, has lost half a
// character: nobody would know whom or what it names.
func whole(params []byte, names ...string) *Error {
	if !push.Halved(params, names...) {
		return nil
	}
	err := NewError(CodeBadRequest, "a name holds half a character: one of a pair of \\u escapes is missing")
	err.Malformed = true
	return err
}

// decodeInfo reads nothing: info has no parameters, and old libraries send none.
func decodeInfo(params []byte, _ *Command) *Error {
	if len(bytes.TrimSpace(params)) == 0 || string(bytes.TrimSpace(params)) == "null" {
		return nil
	}
	return read(params, &struct{}{})
}
