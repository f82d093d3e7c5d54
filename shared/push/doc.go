// Package push holds the words of pushcluster and everything that crosses a
// process boundary between its components. It imports nothing of the project.
//
// The path of one message:
//
//  1. A business system posts a [Message] to Collect, addressed to users,
//     topics or all. Collect gives it a [MessageID], stores it durably and only
//     then hands it to Dispatch in a [DispatchRequest].
//  2. Dispatch turns the [Recipients] into channels. For each [Channel] one
//     atomic step in Redis appends the message to the channel's log, takes the
//     next [Offset] and returns the channel's routes.
//  3. Dispatch writes the inbox (the durable list of a channel's messages by
//     offset) and, beside that write, sends each push node one
//     [DeliverRequest] with everything that is for that node.
//  4. A node gives each [Entry] to the connections that follow its channel, in
//     offset order and once. An entry names the offset of the one before it, so
//     a node that missed something knows, and reads the log or the inbox first.
//  5. A connection that comes back names the last offset it has, or its
//     [Device]'s cursor stands in for it, and it gets what lies between.
//
// Offsets of one channel only grow, whatever happens to Redis: each life of a
// Redis' memory is a [Term] with a floor and a ceiling that the durable store
// remembers.
package push
