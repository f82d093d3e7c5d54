package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"pushcluster/shared/token"
)

// demoTTL is how long the facts' token counts: as long as one looks around.
const demoTTL = 7 * 24 * time.Hour

// Facts are what scripts need to know of a running stack, as in stack.json.
// URLs are base URLs, without path.
type Facts struct {
	Page     string     `json:"page"`
	Auth     string     `json:"auth"`
	Collect  string     `json:"collect"`
	Dispatch string     `json:"dispatch"`
	Nodes    []NodeURLs `json:"nodes"`
	APIKey   string     `json:"api_key"`
	Token    string     `json:"token"` // a connection token of DemoUser, for a week

	// The example's, github, unless another file says who may post webhooks.
	Sources map[string]SourceFacts `json:"sources,omitempty"`
}

// NodeURLs are the two ports of one node.
type NodeURLs struct {
	Public   string `json:"public"`
	Internal string `json:"internal"`
}

// Facts returns the facts of s, with the nodes that run now.
func (s *Stack) Facts() (Facts, error) {
	text, err := s.TokenFor(token.Grant{User: DemoUser, TTL: demoTTL})
	if err != nil {
		return Facts{}, err
	}
	f := Facts{
		Page: s.Page.URL, Auth: s.Auth.URL, Collect: s.Collect.URL, Dispatch: s.Dispatch.URL,
		Nodes: []NodeURLs{}, APIKey: s.cfg.Keys.API, Token: text,
	}
	if s.cfg.Sources == "" {
		f.Sources = map[string]SourceFacts{"github": {URL: s.Collect.URL + "/v1/webhooks/github", Secret: s.secretOfGitHub()}}
	}
	for _, n := range s.Nodes() {
		f.Nodes = append(f.Nodes, NodeURLs{Public: n.URL, Internal: n.Internal})
	}
	return f, nil
}

// Write replaces the file at path with f, readable by the owner only.
func (f Facts) Write(path string) error { return writeJSON(path, f) }

// ReadFacts returns the facts in the file at path.
func ReadFacts(path string) (Facts, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Facts{}, err
	}
	var f Facts
	if err := json.Unmarshal(content, &f); err != nil {
		return Facts{}, fmt.Errorf("%s is not the facts of a stack: %w", path, err)
	}
	return f, nil
}

// RemoveFacts removes the file at path if it is there.
func RemoveFacts(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
