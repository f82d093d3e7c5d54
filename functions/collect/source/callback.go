package source

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"pushcluster/shared/signature"
)

// What a source may be told of its messages.
const (
	EventReceived     = "message.received"     // a device of a recipient proved that it has it
	EventAcknowledged = "message.acknowledged" // an application said that it has dealt with it
	EventExpired      = "message.expired"      // its time was over first
)

// Events returns everything that a source may be told.
func Events() []string { return []string{EventReceived, EventAcknowledged, EventExpired} }

// maxURL bounds the address of a callback, in bytes.
const maxURL = 2048

// A Callback is where a source is told what became of its messages.
type Callback struct {
	URL    string            // http or https
	Events []string          // of Events; not empty
	Signer *signature.Signer // nil where a secret was not looked up: see ErrNotHere
}

// Wants reports whether the source is to be told of event. The nil Callback
// wants nothing.
func (c *Callback) Wants(event string) bool { return c != nil && slices.Contains(c.Events, event) }

// callback reads where the source wants to be told, nil if nowhere.
func (p *parse) callback(m mapping) *Callback {
	f, given := m.fields["callback"]
	if !given || isNull(f.value) {
		return nil
	}
	path := m.in("callback")
	c, ok := p.mapping(f.value, path, []string{"url", "secrets", "events"})
	if !ok {
		return nil
	}
	callback := &Callback{URL: p.scalar(c, "url"), Events: p.events(c)}
	if reason := checkURL(callback.URL); reason != "" {
		p.fault(c.at("url"), c.in("url"), "%s", reason)
	}
	secrets, given := c.fields["secrets"]
	if !given {
		p.fault(c.node, c.in("secrets"), "is missing: callbacks are signed; write env:NAME, file:PATH or an ARN of a whsec_ secret")
		return callback
	}
	before := len(p.faults)
	texts, elsewhere := p.lookUp(secrets.value, c.in("secrets"))
	if len(p.faults) > before || elsewhere {
		return callback
	}
	keys, err := signature.ParseKeys(texts)
	if err != nil {
		p.fault(secrets.value, c.in("secrets"), "%v", err)
	}
	callback.Signer = signature.NewSigner(keys)
	return callback
}

// events reads what the source wants to be told; all of it where it does not
// say.
func (p *parse) events(c mapping) []string {
	f, given := c.fields["events"]
	if !given || isNull(f.value) {
		return Events()
	}
	var events []string
	list := p.list(f.value, c.in("events"), len(Events()))
	for i, node := range list {
		name, ok := text(node)
		at := fmt.Sprintf("%s[%d]", c.in("events"), i)
		switch {
		case !ok || !slices.Contains(Events(), name):
			p.fault(node, at, "is none of %s", strings.Join(Events(), ", "))
		case slices.Contains(events, name):
			p.fault(node, at, "is there twice")
		}
		events = append(events, name)
	}
	if len(list) == 0 {
		p.fault(f.key, c.in("events"), "is empty: leave it out to be told everything")
	}
	return events
}

// checkURL says why text cannot be the address of a callback, or nothing.
func checkURL(text string) string {
	if text == "" {
		return "is missing: it says where callbacks are posted to, as https://shop.example/pushed"
	}
	u, err := url.Parse(text)
	switch {
	case len(text) > maxURL:
		return fmt.Sprintf("is longer than %d bytes", maxURL)
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return "must be an address like https://shop.example/pushed"
	case u.User != nil:
		return "must not hold a user or password: callbacks are signed, and addresses get into logs"
	case u.Fragment != "":
		return "must not have a #fragment, which is never sent"
	}
	return ""
}
