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
	"fmt"
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
	// Wrong is why what the store has by now does not count, and this, which was
	// there before or had other secrets, stays in force; nil: it is the newest.
	Wrong *Unusable
}

// A Set is the sources of one file, and those of the store that the file has not.
// Which there are does not change. The nil Set is empty.
type Set struct {
	sources map[string]*Source
	sum     [32]byte // of the file and the secrets it names

	stored map[string]*stored
	unread bool // the store was never read
}

// Source returns the source of that name. One of the store is read when somebody
// asks for it first, which takes as long as its rules take to compile and its
// secrets to be found; once ctx has ended, no more is read. The error is
// [ErrNone], [ErrUnread] or an [*Unusable].
func (s *Set) Source(ctx context.Context, name string) (*Source, error) {
	if s == nil {
		return nil, ErrNone
	}
	if found, ok := s.sources[name]; ok {
		return found, nil
	}
	if found, ok := s.stored[name]; ok {
		return found.source(ctx)
	}
	if s.unread {
		return nil, ErrUnread
	}
	return nil, ErrNone
}

// Whole reports whether there are no more sources than Names tells: the store
// was read, or there is none.
func (s *Set) Whole() bool { return s == nil || !s.unread }

// Names returns the names of all sources, sorted.
func (s *Set) Names() []string {
	if s == nil {
		return nil
	}
	names := slices.AppendSeq(slices.Collect(maps.Keys(s.sources)), maps.Keys(s.stored))
	slices.Sort(names)
	return slices.Compact(names)
}

var (
	// ErrNone means that there is no source of that name.
	ErrNone = errors.New("there is no source of this name")
	// ErrUnread means that there may be a source of that name: the store was away
	// ever since this process began.
	ErrUnread = errors.New("the store was not read yet")
)

// An Unusable is why a source that the store has does not count as it stands
// there. Its Err joins [*Fault]s.
type Unusable struct {
	Name      string
	UpdatedAt time.Time // when it was put into the store
	Away      bool      // for want of a secret that is away, or of time: it may heal by itself
	Err       error
}

// Error returns what is wrong; it holds no secret.
func (u *Unusable) Error() string {
	return fmt.Sprintf("source %q cannot be used: %v", u.Name, u.Err)
}

// Unwrap returns the faults.
func (u *Unusable) Unwrap() error { return u.Err }

// Resolve finds what a secret of the file stands for: see package secret. An
// error that wraps [ErrNotHere] is no fault: the source is read without the
// secret, and has no Receiver.
type Resolve func(ctx context.Context, value string) (string, error)

// ErrNotHere means that a secret is not looked up here, where a file is only
// read to be checked.
var ErrNotHere = errors.New("the secret is elsewhere")
