package centrifugo

import (
	"bytes"
	"encoding/json"
	"math"

	"pushcluster/shared/push"
)

// A Reply is what became of one command.
type Reply struct {
	Command Command
	Result  any    // nil where the method has an empty one
	Err     *Error // nil: it was carried out
}

// A Broadcasted is the result of a broadcast: one of each channel, in order.
type Broadcasted struct {
	Responses []Response `json:"responses"`
}

// A Response is a reply by itself.
type Response struct {
	ID     uint32 `json:"id,omitempty"`
	Error  *Error `json:"error,omitempty"`
	Result any    `json:"result,omitempty"`
}

// Empty is the result of what went well and has nothing to tell. A publish has
// no offset either: it is answered when the message is kept and handed over,
// which is before it has one.
type Empty struct{}

// A Nodes is the result of info.
type Nodes struct {
	Nodes []Node `json:"nodes"`
}

// A Node is one push node as info tells it.
type Node struct {
	UID         push.NodeID `json:"uid"`
	Name        string      `json:"name"`
	Version     string      `json:"version"`
	NumClients  int         `json:"num_clients"`
	NumUsers    int         `json:"num_users"`
	NumChannels int         `json:"num_channels"`
	NumSubs     int         `json:"num_subs"`
	Uptime      uint32      `json:"uptime"` // seconds
}

// Seconds returns s as an uptime, which is not negative.
func Seconds(s float64) uint32 { return uint32(max(0, min(s, math.MaxUint32))) }

// Response returns r in the form of /api/METHOD, and of each line of /api.
func (r Reply) Response() Response {
	if r.Err != nil {
		return Response{ID: r.Command.ID, Error: r.Err}
	}
	result := r.Result
	if result == nil {
		result = Empty{}
	}
	return Response{ID: r.Command.ID, Result: result}
}

// Lines returns replies in the bare form, one on each line, in their order.
func Lines(replies []Reply) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for _, r := range replies {
		if err := enc.Encode(r.Response()); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), nil
}

// Batch returns replies in the form of a batch: each under the name of its
// method.
func Batch(replies []Reply) any {
	list := make([]map[string]any, len(replies))
	for i, r := range replies {
		response := r.Response()
		if response.Error != nil {
			list[i] = map[string]any{"error": response.Error}
			continue
		}
		list[i] = map[string]any{r.Command.Method: response.Result}
	}
	return struct {
		Replies []map[string]any `json:"replies"`
	}{list}
}
