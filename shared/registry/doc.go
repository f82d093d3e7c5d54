// Package registry keeps in Redis who is connected where and what was sent
// lately: leases, routes and each channel's log. Redis holds nothing that
// cannot be rebuilt; what decides is the durable store's inbox.
//
// # Keys
//
// The braces of a channel's keys are written as they stand here: they make its
// three keys share one slot of a Redis Cluster, where no script touches two slots.
//
//	key                 type        holds                              written by             expires
//	push:term           string      the marker of the term             whoever finds it gone  never
//	push:node:<id>      string      a node's lease                     the node               15 s after its last renewal
//	push:nodes          sorted set  "<id>" or "<id> draining" → the    the node               never; what is 1 min past its end
//	                                lease's end in Redis' ms                                  goes with any node's renewal
//	push:{<ch>}:log     stream      a channel's recent messages        Append                 MaxAge (and up to 1/16 of it)
//	                                                                                          after the last append
//	push:{<ch>}:seen    hash        message id → its entry's id, for   Append                 Keep after the last append
//	                                what the log holds; under the
//	                                empty id the state of the log
//	push:{<ch>}:routes  hash        node id → registration             the node; Dispatch     Keep after the last registration
//	                                                                   removes, fenced
//	push:limit:{<s>}:<n> string     when the subject s will have       Limiter                at that time
//	                                spent nothing of its limit n,
//	                                in Redis' µs
//
// The state of a log reads "<id> <entries> <bytes> <ms>": its newest entry, how
// much it holds, and when it was last brought within its bounds, which is when it
// exceeds them (once in a sixty-fourth of Young) or a sixteenth of MaxAge has gone.
// It outlives the log.
//
// A log's entry has the id "<offset div 2048>-<offset mod 2048>" and the
// fields p (the id of the entry before it in this term, or 0) and m (the message
// in the binary form of package push, without its recipients). What the log
// forgets goes from seen with it.
//
// # Terms
//
// A term is one continuous life of Redis' memory. It is named by the marker
// and the run id of the primary (in a Cluster: of all primaries), and the
// durable store remembers which one is in force, with its floor and ceiling.
// Whoever finds that the marker is gone or that a run id changed puts a new
// marker into Redis (compare-and-set there, so that all agree on one), and
// then makes it the next term in the store (compare-and-set there). Anybody
// may do the second half for a first half that died. A marker begins with the
// number of its term, ends with a sum of the run id at which it was put, and is never
// used twice. Where the run id is that one still and the store has a later term, that
// one goes on at another Redis, and is left alone for 2 s.
//
// The marker is read in the same round trip as every append and every read of
// a log. The run id is read at each renewal, and again whenever the client had
// to open a new connection, for a restarted server is always met through one; in
// a Cluster also when another server took a pipeline than those looked at.
//
// FLUSHALL on one shard of a Cluster that does not hold push:term goes
// unnoticed by this: there, offsets keep growing with the clock, a log's first
// entry has no predecessor, which sends nodes to the inbox, and routes come
// back with each node's slow beat.
package registry
