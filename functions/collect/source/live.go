package source

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"pushcluster/functions/collect/rule"
	"pushcluster/shared/store"
)

// MaxStored is how many sources the store may hold.
const MaxStored = maxSources

// listEvery is how old what is known of the store's sources may be.
const listEvery = 5 * time.Second

// lookTime bounds one look at the file, secrets that are elsewhere included, or
// at the store. It goes on when the request that has found it due is given up.
const lookTime = 30 * time.Second

// A Lister lists the sources of the store.
type Lister interface {
	ListSources(ctx context.Context) ([]store.SourceRecord, error)
}

// A Live is the sources of a file and of the store together. Of one name, the
// file's wins. The store is read again after 5 s, by the request that comes
// then; while it is away, what was known stays. Each source of the store is made
// ready by itself, when somebody asks for it: see [Set.Source].
type Live struct {
	file     *File // nil: none
	store    Lister
	compiler *rule.Compiler
	resolve  Resolve
	log      *slog.Logger
	now      func() time.Time

	view atomic.Pointer[view]

	turn   turn // guards what follows; held while the store is read
	listed time.Time
	away   bool
}

// A view is what is known of file and store. It does not change.
type view struct {
	file *Set
	both *Set
}

// NewLive returns the sources of file, which may be nil, and of st. It does no
// I/O and starts nothing. resolve finds the secrets of the store's sources,
// but those that begin with env: or file:, which are refused. A nil now is
// time.Now.
func NewLive(file *File, st Lister, compiler *rule.Compiler, resolve Resolve, now func() time.Time, log *slog.Logger) *Live {
	if now == nil {
		now = time.Now
	}
	return &Live{file: file, store: st, compiler: compiler, resolve: guarded(resolve), log: log, now: now, turn: newTurn()}
}

// Set returns the sources of now. It reads the file or the store where they were
// not looked at for their time; another goroutine that reads the store is not
// waited for, but for the first time and until ctx ends, and a file that has
// changed counts once it rests.
func (l *Live) Set(ctx context.Context) *Set {
	var file *Set
	if l.file != nil {
		file = l.file.Set(ctx)
	}
	mine := l.turn.try()
	if !mine && l.view.Load() == nil {
		mine = l.turn.wait(ctx)
	}
	last := l.view.Load()
	if last == nil {
		last = &view{both: &Set{unread: true}}
	}
	if !mine {
		return last.with(file).both
	}
	defer l.turn.end()
	next := last.with(file)
	if l.now().Sub(l.listed) >= listEvery {
		next = l.list(ctx, next)
	}
	l.view.Store(next)
	return next.both
}

// with returns v with another set of the file.
func (v *view) with(file *Set) *view {
	if v.file == file {
		return v
	}
	return newView(file, v.both.stored, v.both.unread)
}

// Forget has the next Set read the store, because somebody has changed it.
func (l *Live) Forget() {
	l.turn.wait(context.Background())
	defer l.turn.end()
	l.listed = time.Time{}
}

// InFile reports whether the file has a source of that name.
func (l *Live) InFile(ctx context.Context, name string) bool {
	if l.file == nil {
		return false
	}
	_, err := l.file.Set(ctx).Source(ctx, name)
	return err == nil
}

// Check reads the definition of a source for the store, as [ParseSource] does.
// It may hold secrets as such, or ARNs; what this machine's environment and files
// hold is not for who may only use the API.
func (l *Live) Check(ctx context.Context, name string, definition []byte) (*Source, error) {
	return ParseSource(ctx, name, definition, l.compiler, l.resolve)
}

// CheckRules reads rules that are to be tried, as [ParseRules] does.
func (l *Live) CheckRules(text []byte) ([]*rule.Rule, error) { return ParseRules(text, l.compiler) }

// list reads the store and returns what is known then. What was there stays if
// the store is away.
func (l *Live) list(ctx context.Context, last *view) *view {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	records, err := l.store.ListSources(ctx)
	l.listed = l.now() // its end: who waited for it does not do it again
	if err != nil {
		if !l.away {
			l.log.Error("the store's sources cannot be read; the last ones stay", "err", err)
		}
		l.away = true
		return last
	}
	l.away = false
	next := make(map[string]*stored, len(records))
	for _, r := range records {
		old := last.both.stored[r.Name]
		if old == nil || !old.is(r) {
			old = &stored{live: l, record: r, before: old.good(), turn: newTurn()}
		}
		next[r.Name] = old
	}
	return newView(last.file, next, false)
}

// newView puts both together.
func newView(file *Set, found map[string]*stored, unread bool) *view {
	both := &Set{stored: found, unread: unread}
	if file != nil {
		both.sources = file.sources
	}
	return &view{file, both}
}

// errElsewhere refuses a place of this machine.
var errElsewhere = errors.New("env: and file: are for the file of sources alone; write the secret itself, or its ARN")

// guarded resolves what may come from the API.
func guarded(resolve Resolve) Resolve {
	return func(ctx context.Context, value string) (string, error) {
		if strings.HasPrefix(value, "env:") || strings.HasPrefix(value, "file:") {
			return "", errElsewhere
		}
		return resolve(ctx, value)
	}
}
