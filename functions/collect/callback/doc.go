// Package callback tells the senders of webhooks what became of their messages.
//
// Where a source names a callback, Collect writes an entry of store.Callbacks
// beside each of its messages. Nothing on a message's way looks at it. A
// [Sweeper] claims the entries that are due, asks the store how far each message
// has come with each recipient, and has a [Poster] post what is new, one event a
// request, signed as Standard Webhooks says:
//
//	message.received      the first device of a recipient has it
//	message.acknowledged  the first device of a recipient has dealt with it
//	message.expired       its time was over and no device of a recipient had it
//
// A recipient is a channel: a user, a topic, or all. Each event of each recipient
// is told at least once, and always under the same webhook-id, which is made of
// message, recipient and event: whoever remembers ids hears nothing twice. What
// was told is kept after every look; a crash between telling and keeping tells
// it again.
//
// A message is looked at a second after it came, and then whenever a tenth of its
// age has gone by, at most 5 minutes: an event is told that much later than it
// happened, and a message that waits for days costs a look in 5 minutes.
//
// What cannot be told is tried again, later each time, and parked once it has
// failed for a day. While the store or a secret is away, so that nobody knows how
// a source is told, its entries are postponed, and parked a day before they would
// be forgotten.
package callback
