package push

import "time"

// A NodesRequest asks which nodes there are: POST /v1/dispatch/nodes.
type NodesRequest struct{}

// A NodesAnswer lists the nodes that hold a lease, by id.
type NodesAnswer struct {
	Nodes []NodeInfo `json:"nodes"`
}

// A NodeInfo is what is known of one node: its lease, and what it answered
// itself.
type NodeInfo struct {
	Node      NodeID `json:"node"`
	Address   string `json:"address"`    // host:port of its internal port
	Draining  bool   `json:"draining"`   // it closes its connections, and takes no new ones
	LeaseLeft string `json:"lease_left"` // how long its lease lasts if it is not renewed, a duration
	Answered  bool   `json:"answered"`   // whether the node answered in time; if not, the rest is missing
	*NodeStatus
}

// A StatusRequest asks a node how it is: POST /v1/node/status.
type StatusRequest struct{}

// A NodeStatus is what a node says of itself.
type NodeStatus struct {
	Connections int       `json:"connections"` // open ones, those that have not sent their connect command too
	Users       int       `json:"users"`       // who have at least one connection
	Channels    int       `json:"channels"`    // with connections there
	StartedAt   time.Time `json:"started_at"`  // by the node's own clock
	Version     string    `json:"version"`     // of its program
}

// A StatusAnswer is a node's status under its name: another incarnation may
// live at the address that was asked.
type StatusAnswer struct {
	Node NodeID `json:"node"`
	NodeStatus
}
