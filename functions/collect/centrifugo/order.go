package centrifugo

import (
	"cmp"
	"encoding/json"

	"pushcluster/shared/push"
)

// A closing says how connections are closed.
type closing struct {
	Code      int    `json:"code"`
	Reason    string `json:"reason"`
	Reconnect bool   `json:"reconnect"` // of old libraries: without a code, whether the client comes back
}

// decodeDisconnect reads who is to be disconnected, and how. gocent 3 writes two
// of the fields under the names they have in Go.
func decodeDisconnect(params []byte, c *Command) *Error {
	var in struct {
		User            push.UserID `json:"user"`
		Client          string      `json:"client"`
		Session         string      `json:"session"`
		Whitelist       []string    `json:"whitelist"`
		ClientWhitelist []string    `json:"ClientWhitelist"`
		Disconnect      *closing    `json:"disconnect"`
		InGo            *closing    `json:"Disconnect"`
	}
	if err := read(params, &in); err != nil {
		return err
	}
	if err := noSession(in.Session); err != nil {
		return err
	}
	order := &push.DisconnectRequest{User: in.User, Client: in.Client, Except: append(in.Whitelist, in.ClientWhitelist...)}
	if d := cmp.Or(in.Disconnect, in.InGo); d != nil {
		order.Code, order.Reason = d.Code, d.Reason
		if d.Code == 0 && d.Reconnect {
			order.Code = push.CloseNormal.Code
		}
	}
	if err := order.Check(); err != nil {
		return NewError(CodeBadRequest, "%v", err)
	}
	if err := whole(params, string(in.User), in.Client); err != nil {
		return err
	}
	c.Disconnect = order
	return nil
}

func decodeSubscribe(params []byte, c *Command) *Error {
	var in struct {
		User         push.UserID     `json:"user"`
		Channel      push.Channel    `json:"channel"`
		Client       string          `json:"client"`
		Session      string          `json:"session"`
		ExpireAt     int64           `json:"expire_at"`
		Data         json.RawMessage `json:"data"`
		B64Data      string          `json:"b64data"`
		RecoverSince *push.Position  `json:"recover_since"`

		// Without effect: there is no presence, and every subscription has its
		// position and is recovered.
		Info      json.RawMessage `json:"info"`
		B64Info   string          `json:"b64info"`
		Override  json.RawMessage `json:"override"`
		Presence  bool            `json:"presence"`
		JoinLeave bool            `json:"join_leave"`
		Position  bool            `json:"position"`
		Recover   bool            `json:"recover"`
	}
	if err := read(params, &in); err != nil {
		return err
	}
	if err := noSession(in.Session); err != nil {
		return err
	}
	if in.ExpireAt != 0 {
		return NewError(CodeNotAvailable, "expire_at: a subscription lasts as long as its connection")
	}
	data, bad := dataOf(in.Data, in.B64Data)
	if bad != nil {
		return bad
	}
	order := &push.SubscribeRequest{User: in.User, Channel: in.Channel, Client: in.Client, Since: in.RecoverSince, Data: data}
	if err := order.Check(); err != nil {
		return NewError(CodeBadRequest, "%v", err)
	}
	if err := whole(params, string(in.User), string(in.Channel), in.Client); err != nil {
		return err
	}
	c.Subscribe = order
	return nil
}

func decodeUnsubscribe(params []byte, c *Command) *Error {
	var in struct {
		User    push.UserID  `json:"user"`
		Channel push.Channel `json:"channel"`
		Client  string       `json:"client"`
		Session string       `json:"session"`
	}
	if err := read(params, &in); err != nil {
		return err
	}
	if err := noSession(in.Session); err != nil {
		return err
	}
	order := &push.UnsubscribeRequest{User: in.User, Channel: in.Channel, Client: in.Client}
	if err := order.Check(); err != nil {
		return NewError(CodeBadRequest, "%v", err)
	}
	if err := whole(params, string(in.User), string(in.Channel), in.Client); err != nil {
		return err
	}
	c.Unsubscribe = order
	return nil
}

func noSession(session string) *Error {
	if session == "" {
		return nil
	}
	return NewError(CodeNotAvailable, "session: there are no unidirectional connections here; name the client")
}
