// Package source holds the business systems that post webhooks: how each signs
// them, with which secrets, and what its rules make of them.
//
// They are written in one file, sources.yaml:
//
//	sources:
//	  github:
//	    verify: github                  # a preset of package signature, or custom
//	    secrets: [env:GITHUB_SECRET]    # several at once for rotation; env:, file: or an ARN
//	    rules:
//	      - when: body.action == "opened"
//	        to: { users: "body.pull_request.requested_reviewers.map(r, string(r.id))" }
//	        event: '"review.requested"'
//	        data: '{"title": body.pull_request.title}'
//	        ttl: 72h
//
// [Parse] reads it and tells everything that is wrong with it, each [Fault] with
// its line. A [File] follows one while it is edited. docs/sources.schema.json
// describes the same for editors.
package source

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"pushcluster/functions/collect/address"
	"pushcluster/functions/collect/rule"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/signature"
)

// Limits of a file.
const (
	MaxFile    = 1 << 20 // bytes
	maxSources = 1000
	maxRules   = 100 // of one source
	maxSecrets = 10  // of one source
)

// How long deliveries are kept: where the source does not say, and at most.
const (
	DefaultRetain = 7 * 24 * time.Hour
	MaxRetain     = push.MaxTTL
)

// A Source is one business system. It may be used by several goroutines.
type Source struct {
	Name     string
	Verify   string              // the preset, or "custom"
	Receiver *signature.Receiver // nil where a secret was not looked up: see ErrNotHere
	Rules    []*rule.Rule        // tried one after the other, each may make a message
	// Retain is how long its deliveries are kept, to be looked at and replayed;
	// 0: none is.
	Retain time.Duration
	// Callback is where the source is told what became of its messages; nil: it
	// is not.
	Callback *Callback
	// Limits are how often it may post; none: as often as it likes.
	Limits []registry.Rate
	// Addresses are where it may post from; nil: anywhere.
	Addresses address.Prefixes
	// UpdatedAt is when a source of the store was put there; zero for the file's.
	UpdatedAt time.Time
}

// A Set is the sources of one file. It does not change. The nil Set is empty.
type Set struct {
	sources map[string]*Source
	sum     [32]byte // of the file and the secrets it names

	unread   bool            // the store was never read
	unusable map[string]bool // in the store, and no version of it could be used yet
}

// Source returns the source of that name.
func (s *Set) Source(name string) (*Source, bool) {
	if s == nil {
		return nil, false
	}
	found, ok := s.sources[name]
	return found, ok
}

// Unknown reports whether there may be a source of that name although Source has
// none: the store, or a secret, was away ever since this process began.
func (s *Set) Unknown(name string) bool { return s != nil && (s.unread || s.unusable[name]) }

// Names returns the names of all sources, sorted.
func (s *Set) Names() []string {
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.sources))
}

// Resolve finds what a secret of the file stands for: see package secret. An
// error that wraps [ErrNotHere] is no fault: the source is read without the
// secret, and has no Receiver.
type Resolve func(ctx context.Context, value string) (string, error)

// ErrNotHere means that a secret is not looked up here, where a file is only
// read to be checked.
var ErrNotHere = errors.New("the secret is elsewhere")
