package token

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"pushcluster/shared/push"
)

// Limits of what a token may claim.
const (
	MaxChannels = 128 // channels and subs together
	MaxTopics   = 128
)

// maxDate is the last second of the year 9999: RFC 3339 has no later one.
const maxDate = 253402300799

// claims are what a token's payload says, read but not yet judged.
type claims struct {
	sub      string
	hasSub   bool
	exp      time.Time // zero: none
	nbf      time.Time
	iat      time.Time
	jti      string
	iss      string
	aud      []string
	info     json.RawMessage
	channels []string
	topics   []string
}

// parseClaims reads a payload. Claim names are matched exactly.
func parseClaims(payload []byte) (claims, error) {
	if !utf8.Valid(payload) { // the decoder would put U+FFFD, and make two users one
		return claims{}, errors.New("the claims are not UTF-8")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil || fields == nil {
		return claims{}, errors.New("the claims are not a JSON object")
	}
	var c claims
	var subs map[string]json.RawMessage
	var b64info string
	readers := []struct {
		name string
		read func(json.RawMessage) error
	}{
		{"sub", func(raw json.RawMessage) error { c.hasSub = true; return json.Unmarshal(raw, &c.sub) }},
		{"exp", dateInto(&c.exp)},
		{"nbf", dateInto(&c.nbf)},
		{"iat", dateInto(&c.iat)},
		{"jti", into(&c.jti)},
		{"iss", into(&c.iss)},
		{"aud", audienceInto(&c.aud)},
		{"info", into(&c.info)},
		{"b64info", into(&b64info)},
		{"channels", into(&c.channels)},
		{"subs", into(&subs)},
		{"topics", into(&c.topics)},
	}
	for _, r := range readers {
		raw, ok := fields[r.name]
		if !ok || string(raw) == "null" {
			continue
		}
		if r.name != "info" && push.HasHalfCharacter(raw) { // for which the decoder would put U+FFFD, too
			return claims{}, fmt.Errorf("claim %s holds half a character", r.name)
		}
		if err := r.read(raw); err != nil {
			return claims{}, fmt.Errorf("claim %s does not have the form it must have", r.name)
		}
	}
	if b64info != "" {
		b, err := base64.StdEncoding.DecodeString(b64info)
		if err != nil || !json.Valid(b) {
			return claims{}, errors.New("claim b64info is not JSON in base64")
		}
		c.info = b
	}
	names := make([]string, 0, len(subs))
	for name := range subs {
		names = append(names, name)
	}
	slices.Sort(names)
	c.channels = append(c.channels, names...)
	return c, nil
}

func into[T any](dst *T) func(json.RawMessage) error {
	return func(raw json.RawMessage) error { return json.Unmarshal(raw, dst) }
}

// dateInto reads a NumericDate (RFC 7519): seconds since 1970, perhaps with a
// fraction, of which milliseconds are kept.
func dateInto(dst *time.Time) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		var seconds float64
		if err := json.Unmarshal(raw, &seconds); err != nil {
			return err
		}
		if seconds < 0 || seconds > maxDate {
			return errors.New("outside the years 1970 to 9999")
		}
		*dst = dateOf(seconds)
		return nil
	}
}

// dateOf returns the moment that many seconds after 1970 began.
func dateOf(seconds float64) time.Time {
	return time.UnixMilli(int64(math.Floor(seconds * 1000))).UTC()
}

// audienceInto reads one string or an array of them.
func audienceInto(dst *[]string) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		var one string
		if json.Unmarshal(raw, &one) == nil {
			*dst = []string{one}
			return nil
		}
		return json.Unmarshal(raw, dst)
	}
}

// identity judges what the claims say of the user, and of nothing else. Its
// error names the claim.
func (c claims) identity() (push.Identity, error) {
	user := push.UserID(c.sub)
	if !c.hasSub {
		return push.Identity{}, errors.New("claim sub is missing")
	}
	if err := user.Check(); err != nil {
		return push.Identity{}, fmt.Errorf("claim sub: %w", err)
	}
	channels, err := checkChannels(user, c.channels)
	if err != nil {
		return push.Identity{}, err
	}
	if err := checkTopics(c.topics); err != nil {
		return push.Identity{}, err
	}
	return push.Identity{
		User: user, ExpiresAt: c.exp, IssuedAt: c.iat, TokenID: c.jti,
		Channels: channels, Topics: c.topics, Info: c.info,
	}, nil
}

// checkChannels returns the topics among names, each once. The channels that a
// connection of user follows anyway are left out; another user's is an error.
func checkChannels(user push.UserID, names []string) ([]push.Channel, error) {
	if len(names) > MaxChannels {
		return nil, fmt.Errorf("%d channels, more than %d", len(names), MaxChannels)
	}
	var list []push.Channel
	seen := make(map[push.Channel]bool, len(names))
	for i, name := range names {
		ch := push.Channel(name)
		if ch == push.All || ch == push.Personal(user) || seen[ch] {
			continue
		}
		if err := ch.CheckTopic(); err != nil {
			return nil, fmt.Errorf("channels[%d]: %w", i, err)
		}
		seen[ch] = true
		list = append(list, ch)
	}
	return list, nil
}

// checkTopics returns an error if one of list is neither a topic nor a prefix
// of topics that ends in '*'.
func checkTopics(list []string) error {
	if len(list) > MaxTopics {
		return fmt.Errorf("%d topics, more than %d", len(list), MaxTopics)
	}
	for i, name := range list {
		prefix, isPrefix := strings.CutSuffix(name, "*")
		if isPrefix && (prefix == "" || prefix == string(push.All)) {
			continue // every topic, and those like "alliance", are topics
		}
		if err := push.Channel(prefix).CheckTopic(); err != nil {
			return fmt.Errorf("topics[%d]: %w", i, err)
		}
	}
	return nil
}
