// Package chaos breaks a whole cluster on purpose and counts what comes of it.
//
// Each scenario starts a cluster of its own: Auth, Collect, Dispatch and three
// push nodes, each a process, a redis-server, and the durable store. Official
// SDK clients connect and record what they receive; senders post messages and
// record what was accepted. Under that steady load the scenario does its harm.
// When the harm is over and the load has ended, the clients have a while to
// receive what they are owed, and then both ends of the ledger are compared.
//
// A row of the table says, for one scenario:
//
//	accepted   messages that Collect answered 2xx for
//	expected   deliveries owed for them: one for each client of each addressed channel
//	received   those of them that arrived
//	lost       those that did not; must be 0
//	repeated   arrived twice on one connection, or at or below a position that
//	           the client had come back with, or that a pong or an ack had
//	           recorded; must be 0, but where the row says a double fault the
//	           same message may come again at a new place
//	replayed   arrived again after a page reload, above what was recorded
//	reordered  arrived on a connection behind a later offset of its channel; must be 0
//	           (and, without a double fault, no offset may be below that of a message
//	           which was accepted before this one was posted: the row is red)
//	heal       of deliveries that were held up (by 250 ms or more) and came after
//	           the end of a fault: time since that end, or since the message's
//	           acceptance if that was later
package chaos
