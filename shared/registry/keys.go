package registry

import "pushcluster/shared/push"

const (
	termKey  = "push:term"
	nodesKey = "push:nodes"
)

// drainingSuffix marks the member of a draining node in push:nodes. A node id
// holds no space.
const drainingSuffix = " draining"

func leaseKey(id push.NodeID) string { return "push:node:" + string(id) }

func logKey(c push.Channel) string    { return "push:{" + string(c) + "}:log" }
func seenKey(c push.Channel) string   { return "push:{" + string(c) + "}:seen" }
func lastKey(c push.Channel) string   { return "push:{" + string(c) + "}:last" }
func routesKey(c push.Channel) string { return "push:{" + string(c) + "}:routes" }
