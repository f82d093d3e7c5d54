package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answerMargin is kept of Lambda's deadline, so that a handler that waits for
// the end of its context still gets its answer out.
const answerMargin = 100 * time.Millisecond

// Events is what a program answers on Lambda. A kind of event that has nobody
// to take it is refused with [ErrEvent].
type Events struct {
	HTTP     http.Handler // requests through an HTTP API or a function URL, and invocations by our own services
	Queue    Queue
	Schedule Schedule
	Auth     Authorizer
	// After runs when an event was answered, before the answer goes: nothing
	// may be left to do then, for Lambda stops the clock. Nil: nothing.
	After func()
}

// A Queue takes what a queue delivers.
type Queue interface {
	// TakeQueue takes a batch and returns as many errors: an item without one is
	// done, the others are delivered again.
	TakeQueue(ctx context.Context, items []QueueItem) []error
}

// A QueueItem is one item of a queue.
type QueueItem struct {
	Body  []byte
	Again bool // it was delivered before, and something may have come of that
}

// A Schedule does what is to be done every so often.
type Schedule interface {
	// RunSchedule returns when nothing more is due, or shortly before ctx ends.
	RunSchedule(ctx context.Context) error
}

// An Authorizer tells API Gateway whether a token is good.
type Authorizer interface {
	// Authorize returns what is known of the token's holder, as plain strings.
	// Its error wraps [ErrRefused] if the token is not good, which API Gateway
	// may remember; with any other it answers 500 and asks again.
	Authorize(ctx context.Context, token string) (map[string]string, error)
}

// ErrRefused means that a token is not good.
var ErrRefused = errors.New("token refused")

// Answer does what one event asks for, and returns what Lambda is told. It never
// panics. Lambda events come here by themselves; so may those of a test.
func (e *Events) Answer(ctx context.Context, payload []byte, log *slog.Logger) (answer []byte, err error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-answerMargin))
		defer cancel()
	}
	if e.After != nil {
		defer e.After()
	}
	defer func() {
		if broken := recover(); broken != nil {
			log.Error("panic in an event", "panic", broken, "stack", string(debug.Stack()))
			answer, err = nil, errors.New("the event could not be handled")
		}
	}()
	ev, kind, err := parseEvent(payload)
	if err != nil {
		return nil, err
	}
	switch {
	case kind == kindHTTP && e.HTTP != nil:
		return e.serveHTTP(ctx, ev, log)
	case kind == kindInvoke && e.HTTP != nil:
		return e.serveHTTP(context.WithValue(ctx, invokedKey{}, true), ev, log)
	case kind == kindQueue && e.Queue != nil:
		return e.takeQueue(ctx, ev, log)
	case kind == kindSchedule && e.Schedule != nil:
		return []byte("{}"), e.Schedule.RunSchedule(ctx)
	case kind == kindAuthorize && e.Auth != nil:
		return e.authorize(ctx, ev)
	}
	return nil, ErrEvent
}

// serveHTTP answers an HTTP request, whatever its handler does: a panic is a
// 500, also one that would have cut a connection.
func (e *Events) serveHTTP(ctx context.Context, ev *event, log *slog.Logger) (answer []byte, err error) {
	r, err := ev.request(ctx)
	if err != nil {
		return nil, err
	}
	w := newRecorder(r.Method)
	defer func() {
		if panicked := recover(); panicked != nil {
			if panicked != http.ErrAbortHandler { // that one was logged
				log.Error("panic in a handler", "panic", panicked, "stack", string(debug.Stack()))
			}
			answer, err = broken(r, "the request could not be handled"), nil
		}
	}()
	e.HTTP.ServeHTTP(w, r)
	return w.payload(r), nil
}

// takeQueue hands a batch over and names the items that are not done. Naming
// none is success; an item that has no name of its own fails the whole batch.
func (e *Events) takeQueue(ctx context.Context, ev *event, log *slog.Logger) ([]byte, error) {
	items := make([]QueueItem, len(ev.Records))
	for i, r := range ev.Records {
		if r.MessageID == "" {
			return nil, fmt.Errorf("%w: a queue's item has no id", ErrEvent)
		}
		// Without a count that can be read, it counts as delivered before.
		count, err := strconv.Atoi(r.Attributes.ReceiveCount)
		items[i] = QueueItem{Body: []byte(r.Body), Again: err != nil || count != 1}
	}
	errs := e.Queue.TakeQueue(ctx, items)
	if len(errs) != len(items) {
		return nil, fmt.Errorf("%d answers for %d items of a queue", len(errs), len(items))
	}
	type failure struct {
		Item string `json:"itemIdentifier"`
	}
	failures := []failure{}
	for i, err := range errs {
		if err != nil {
			log.Warn("an item of the queue is not done", "item", ev.Records[i].MessageID, "again", items[i].Again, "err", err)
			failures = append(failures, failure{ev.Records[i].MessageID})
		}
	}
	return json.Marshal(map[string]any{"batchItemFailures": failures})
}

// authorize answers an API Gateway authorizer in its simple form.
func (e *Events) authorize(ctx context.Context, ev *event) ([]byte, error) {
	token := ""
	if i := slices.IndexFunc(ev.IdentitySource, func(s string) bool { return s != "" }); i >= 0 {
		token = ev.IdentitySource[i]
	}
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}
	type simple struct {
		IsAuthorized bool              `json:"isAuthorized"`
		Context      map[string]string `json:"context,omitempty"`
	}
	if token == "" {
		return json.Marshal(simple{})
	}
	known, err := e.Auth.Authorize(ctx, token)
	switch {
	case errors.Is(err, ErrRefused):
		return json.Marshal(simple{})
	case err != nil:
		return nil, err
	}
	return json.Marshal(simple{IsAuthorized: true, Context: known})
}
