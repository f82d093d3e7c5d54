package centrifugo

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"unicode"
	"unicode/utf8"

	"pushcluster/shared/push"
)

// A Publish is a publish or a broadcast: one message for one or several
// channels. Its content is not checked here but for its form.
type Publish struct {
	Channels []push.Channel // as they were named, "#42" and "all" too
	Data     json.RawMessage
	ID       string // the idempotency key; "" if there is none

	// Of the tags.
	Event, CollapseKey string
	TTL                *string
}

// content is what publish and broadcast have in common.
type content struct {
	Data           json.RawMessage   `json:"data"`
	B64Data        string            `json:"b64data"`
	Tags           map[string]string `json:"tags"`
	IdempotencyKey string            `json:"idempotency_key"`
	Version        uint64            `json:"version"`
	VersionEpoch   string            `json:"version_epoch"`

	// Without effect: every message is kept until it expires, and is sent whole.
	SkipHistory bool `json:"skip_history"`
	Delta       bool `json:"delta"`
}

func decodePublish(params []byte, c *Command) *Error {
	var in struct {
		Channel string `json:"channel"`
		content
	}
	if err := read(params, &in); err != nil {
		return err
	}
	p, err := in.publish()
	if err != nil {
		return err
	}
	p.Channels = []push.Channel{push.Channel(in.Channel)}
	if err := CheckChannel(p.Channels[0]); err != nil {
		return err
	}
	if err := whole(params, in.Channel, p.ID, p.CollapseKey); err != nil {
		return err
	}
	c.Publish = p
	return nil
}

func decodeBroadcast(params []byte, c *Command) *Error {
	var in struct {
		Channels []push.Channel `json:"channels"`
		content
	}
	if err := read(params, &in); err != nil {
		return err
	}
	if len(in.Channels) == 0 {
		return NewError(CodeBadRequest, "channels is empty")
	}
	if len(in.Channels) > push.MaxRecipients {
		return NewError(CodeLimitExceeded, "%d channels, more than %d", len(in.Channels), push.MaxRecipients)
	}
	p, err := in.publish()
	if err != nil {
		return err
	}
	if err := whole(params, p.ID, p.CollapseKey); err != nil {
		return err
	}
	if push.Halved(params, in.Channels...) {
		return whole(params, string(unicode.ReplacementChar))
	}
	p.Channels = in.Channels
	c.Publish = p
	return nil
}

// CheckChannel returns nil if messages can be sent to a channel of that name.
func CheckChannel(c push.Channel) *Error {
	if err := c.Check(); err != nil {
		return NewError(CodeBadRequest, "%v", err)
	}
	return nil
}

// publish returns what is to be sent, to nobody yet.
func (in *content) publish() (*Publish, *Error) {
	if in.Version != 0 || in.VersionEpoch != "" {
		return nil, NewError(CodeNotAvailable, "version; use the tag collapse_key where the newest counts")
	}
	p := &Publish{ID: in.IdempotencyKey}
	var err *Error
	if p.Data, err = dataOf(in.Data, in.B64Data); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(in.Tags)) {
		value := in.Tags[name]
		switch name {
		case "event":
			p.Event = value
		case "collapse_key":
			p.CollapseKey = value
		case "ttl":
			p.TTL = &value
		default:
			return nil, NewError(CodeNotAvailable, "the tag %q: messages carry event, ttl and collapse_key; put the rest into data", push.Clip(name, 60))
		}
	}
	return p, nil
}

// dataOf returns data, or what is in b64data in its place.
func dataOf(data json.RawMessage, b64data string) (json.RawMessage, *Error) {
	if b64data == "" {
		return data, nil
	}
	raw, err := base64.StdEncoding.DecodeString(b64data)
	if err != nil || !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, NewError(CodeBadRequest, "b64data must be base64 of JSON: there is no binary data here")
	}
	return raw, nil
}
