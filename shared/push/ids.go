package push

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of names, in bytes.
const (
	MaxName      = 255 // a user id or a topic
	MaxDevice    = 64
	MaxMessageID = 512
)

// A UserID is whoever a token was issued to: 1 to [MaxName] bytes of UTF-8
// without control characters, '{', '}' or '*'.
type UserID string

// A Channel is an ordered stream of messages: "#42" is user 42's personal
// channel, [All] reaches every connection, any other name is a topic.
type Channel string

// A NodeID names one push node process in one incarnation; a restart is a new
// node. It reads "IP:PORT~NONCE", so whoever has the id knows the address of
// the node's internal port.
type NodeID string

// A MessageID names one message for ever. "KEYNAME/ID" where the sender gave
// ID, else a UUIDv7.
type MessageID string

// A Device is what a user calls the thing in their hand: chosen by the client,
// stable over reconnects and page loads. Empty means the client named none.
type Device string

// All is the channel that reaches every connection.
const All Channel = "all"

// Personal returns the channel that reaches every connection of u.
func Personal(u UserID) Channel { return Channel("#" + string(u)) }

// User returns the user whose personal channel c is; ok is false for topics
// and [All].
func (c Channel) User() (u UserID, ok bool) {
	if strings.HasPrefix(string(c), "#") {
		return UserID(c[1:]), true
	}
	return "", false
}

// Addr returns the host:port of the node's internal port, or "" if n was not
// made by [NewNodeID].
func (n NodeID) Addr() string {
	addr, _, ok := strings.Cut(string(n), "~")
	if !ok {
		return ""
	}
	return addr
}

// NewNodeID returns the id of the incarnation nonce of the node whose internal
// port others reach at addr (host:port). The nonce must be new at each start.
func NewNodeID(addr, nonce string) NodeID { return NodeID(addr + "~" + nonce) }

// Check returns nil if u is a valid user id, else an error that says why not.
func (u UserID) Check() error { return checkName("user", string(u)) }

// CheckTopic returns nil if c is a name that a topic may have, else an error
// that says why not. Personal channels and [All] are not topics.
func (c Channel) CheckTopic() error {
	if strings.HasPrefix(string(c), "#") {
		return fmt.Errorf("channel %q: a topic does not start with '#'; address the user instead", clip(string(c)))
	}
	if c == All {
		return fmt.Errorf("channel %q is reserved; address it with \"all\": true", c)
	}
	return checkName("channel", string(c))
}

// Check returns nil if c is a channel of any kind that can exist.
func (c Channel) Check() error {
	if u, ok := c.User(); ok {
		return u.Check()
	}
	return checkName("channel", string(c))
}

// Check returns nil if d is empty or a valid device id: at most [MaxDevice] of
// A-Z a-z 0-9 _ . -
func (d Device) Check() error {
	if len(d) > MaxDevice {
		return fmt.Errorf("device is %d characters long, more than %d", len(d), MaxDevice)
	}
	for _, r := range []byte(d) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.', r == '-':
		default:
			return fmt.Errorf("device %q holds a character outside A-Z a-z 0-9 _ . -", clip(string(d)))
		}
	}
	return nil
}

func checkName(kind, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is empty", kind)
	case len(s) > MaxName:
		return fmt.Errorf("%s %q… is %d bytes long, more than %d", kind, clip(s), len(s), MaxName)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s %q is not valid UTF-8", kind, clip(s))
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '{' || r == '}' || r == '*' {
			return fmt.Errorf("%s %q holds %q, which no name may", kind, clip(s), r)
		}
	}
	return nil
}

// clip shortens s for an error message.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
