package registry

import "pushcluster/shared/push"

const (
	termKey  = "push:term"
	nodesKey = "push:nodes"
)

// drainingSuffix marks the member of a draining node in push:nodes. A node id
// holds no space.
const drainingSuffix = " draining"

// stateField is where the state of a channel's log stands among the places of its
// messages, none of which has an empty id.
const stateField = ""

func leaseKey(id push.NodeID) string { return "push:node:" + string(id) }

func logKey(c push.Channel) string    { return "push:{" + string(c) + "}:log" }
func seenKey(c push.Channel) string   { return "push:{" + string(c) + "}:seen" }
func routesKey(c push.Channel) string { return "push:{" + string(c) + "}:routes" }
