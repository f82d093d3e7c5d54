package api

import (
	"context"
	"time"
)

// A SourceList lists the sources in force.
type SourceList struct {
	Sources []Item[Source] `json:"sources"`
}

// A Source is who may post webhooks. Its secrets are never told.
type Source struct {
	Name      string    `json:"name"`
	From      string    `json:"from"` // "file" or "api"
	Verify    string    `json:"verify"`
	Secrets   int       `json:"secrets"`
	Retain    string    `json:"retain"`
	Callback  *Callback `json:"callback"`
	Limit     []Rate    `json:"limit"`
	Addresses []string  `json:"addresses"`
	Rules     []Rule    `json:"rules"`
	UpdatedAt time.Time `json:"updated_at"`
	Wrong     *Wrong    `json:"wrong"`
}

// A Wrong is why what was put last under a source's name does not count.
type Wrong struct {
	Code   string `json:"code"` // unavailable: it may heal by itself
	Reason string `json:"reason"`
}

// A Callback is where a source wants to be told what became of its messages.
type Callback struct {
	URL    string   `json:"url"`
	Events []string `json:"events"`
}

// A Rate is one limit of what a source may send.
type Rate struct {
	Rate  string `json:"rate"`
	Burst int    `json:"burst"`
}

// A Rule is one rule of a source, as it was written.
type Rule struct {
	Name        string            `json:"name"`
	When        string            `json:"when"`
	To          map[string]string `json:"to"`
	Event       string            `json:"event"`
	Data        string            `json:"data"`
	TTL         string            `json:"ttl"`
	CollapseKey string            `json:"collapse_key"`
}

// Sources lists the sources in force.
func (c *Client) Sources(ctx context.Context) (Answer[SourceList], error) {
	return do[SourceList](ctx, c, call{to: c.collect(), method: "GET", path: "/v1/sources", has: []string{"sources"}})
}

// Source asks for one source.
func (c *Client) Source(ctx context.Context, name string) (Answer[Source], error) {
	return do[Source](ctx, c, call{to: c.collect(), method: "GET", path: sourcePath(name), has: []string{"name"}})
}

// PutSource adds or replaces a source; definition is YAML or JSON.
func (c *Client) PutSource(ctx context.Context, name string, definition []byte) (Answer[Source], error) {
	return do[Source](ctx, c, call{to: c.collect(), method: "PUT", path: sourcePath(name), has: []string{"name"}, body: definition})
}

// RemoveSource removes a source from the store.
func (c *Client) RemoveSource(ctx context.Context, name string) error {
	_, err := do[struct{}](ctx, c, call{to: c.collect(), method: "DELETE", path: sourcePath(name), silent: true})
	return err
}

func sourcePath(name string) string { return "/v1/sources/" + segment(name) }
