// Package batch sends many messages from a file of lines, each a message as
// POST /v1/messages takes it. It sends them in their order, as many at once as
// Collect takes, and again where no answer came: every message gets an id, so
// that what is sent twice stays one message.
package batch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"pushcluster/pushctl/api"
	"pushcluster/shared/push"
)

// Limits of one request, a little below Collect's own.
const (
	maxMessages = 1000
	maxBytes    = 1000 << 10
)

// MaxLine is how long a line may be, in bytes.
const MaxLine = 256 << 10

// MaxKey is how long a [Config]'s Key may be, in bytes.
const MaxKey = 200

// A Sender sends an array of messages; api.Client is one.
type Sender interface {
	SendAll(ctx context.Context, array []byte) (api.Answer[[]api.Item[api.Accepted]], error)
}

// Config says how messages are sent.
type Config struct {
	// Key begins the ids of messages that have none: KEY/LINE. The same file sent
	// again under the same key is the same messages.
	Key string
	// Told is called for each line, in order, once its outcome is known; not nil.
	Told func(Outcome)
	// Moved is called with how many bytes of the input are dealt with; may be nil.
	Moved func(bytes int64)
	// Pause waits; nil waits on a clock. It returns early, with ctx's error, when
	// ctx ends.
	Pause func(ctx context.Context, d time.Duration) error
}

// An Outcome is what became of one line.
type Outcome struct {
	Line   int             `json:"line"` // from 1
	ID     push.MessageID  `json:"id,omitempty"`
	Code   push.Code       `json:"code,omitempty"` // why it was refused; empty: it was accepted
	Detail string          `json:"detail,omitempty"`
	Answer json.RawMessage `json:"-"`
}

// Run sends what in holds until it ends. Empty lines are passed over. Lines that
// are refused do not stop the others. Its error says that the rest was not sent,
// or that it is not known whether it arrived.
func Run(ctx context.Context, in io.Reader, to Sender, cfg Config) error {
	if cfg.Pause == nil {
		cfg.Pause = pause
	}
	r := run{cfg: cfg, to: to}
	lines := bufio.NewReaderSize(in, 64<<10)
	for number := 1; ; number++ {
		line, size, err := readLine(lines)
		r.read += int64(size)
		if len(line) > 0 || errors.Is(err, errLong) {
			if sendErr := r.add(ctx, number, line, err); sendErr != nil {
				return sendErr
			}
		}
		if err != nil && !errors.Is(err, errLong) {
			if sendErr := r.flush(ctx); sendErr != nil {
				return sendErr
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("line %d: %w; what comes before it was sent", number, err)
		}
	}
}

var errLong = fmt.Errorf("the line is longer than %d bytes", MaxLine)

// readLine returns the next line without space around it, and how many bytes it
// took. Of one that is too long it returns errLong and nothing else.
func readLine(r *bufio.Reader) (line []byte, size int, err error) {
	long := false
	for {
		part, err := r.ReadSlice('\n')
		size += len(part)
		if size > MaxLine {
			long, line = true, nil
		} else {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case long && (err == nil || errors.Is(err, io.EOF)):
			return nil, size, errLong // what comes next ends it, if there is an end
		default:
			return bytes.TrimSpace(line), size, err
		}
	}
}

// A run is one Run.
type run struct {
	cfg  Config
	to   Sender
	read int64

	outcomes []Outcome // of lines that wait, sent or refused here, in order
	sent     []int     // places in outcomes of what is in array
	array    []byte    // without its end
}

// add takes one line; wrong says what is wrong with it already.
func (r *run) add(ctx context.Context, number int, line []byte, wrong error) error {
	var message []byte
	if errors.Is(wrong, errLong) {
		wrong = errLong
	} else {
		message, wrong = withID(line, fmt.Sprintf("%s/%d", r.cfg.Key, number))
	}
	if wrong != nil {
		r.outcomes = append(r.outcomes, Outcome{Line: number, Code: push.CodeBadJSON, Detail: wrong.Error()})
		return nil
	}
	if len(r.sent) == maxMessages || len(r.array)+len(message)+2 > maxBytes {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	lead := byte(',')
	if len(r.sent) == 0 {
		lead = '['
	}
	r.array = append(append(r.array, lead), message...)
	r.sent = append(r.sent, len(r.outcomes))
	r.outcomes = append(r.outcomes, Outcome{Line: number})
	return nil
}

// withID returns the message of a line with an id of its own, or with id. Collect
// takes a field by its name in any case, and null for none.
func withID(line []byte, id string) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil || fields == nil {
		return nil, errors.New("the line is not a JSON object")
	}
	for name, value := range fields {
		switch {
		case !strings.EqualFold(name, "id"):
		case string(value) != "null":
			return line, nil
		default:
			delete(fields, name)
		}
	}
	quoted, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	fields["id"] = quoted
	return json.Marshal(fields)
}

// flush sends what waits, and tells the outcomes.
func (r *run) flush(ctx context.Context) error {
	if len(r.sent) > 0 {
		answers, err := r.send(ctx, append(r.array, ']'))
		if err != nil {
			first, last := r.outcomes[r.sent[0]].Line, r.outcomes[r.sent[len(r.sent)-1]].Line
			return fmt.Errorf("lines %d to %d: %w", first, last, err)
		}
		for i, place := range r.sent {
			a := answers[i].Value
			o := &r.outcomes[place]
			o.ID, o.Code, o.Detail, o.Answer = a.ID, a.Code, a.Detail, answers[i].Raw
		}
	}
	for _, o := range r.outcomes {
		r.cfg.Told(o)
	}
	if r.cfg.Moved != nil {
		r.cfg.Moved(r.read)
	}
	r.outcomes, r.sent, r.array = r.outcomes[:0], r.sent[:0], r.array[:0]
	return nil
}

// Between tries of one request.
const (
	tries     = 8
	firstWait = 250 * time.Millisecond
	mostWait  = 15 * time.Second
)

// send sends an array until it is answered, at most eight times: over half a
// minute, or as long as Retry-After says.
func (r *run) send(ctx context.Context, array []byte) ([]api.Item[api.Accepted], error) {
	wait := firstWait
	for try := 1; ; try++ {
		answer, err := r.to.SendAll(ctx, array)
		if err == nil {
			if len(answer.Value) != len(r.sent) {
				return nil, fmt.Errorf("%d messages got %d answers", len(r.sent), len(answer.Value))
			}
			return answer.Value, nil
		}
		fault, ok := errors.AsType[*api.Error](err)
		if !ok || !fault.Temporary() || try == tries {
			return nil, err
		}
		if err := r.cfg.Pause(ctx, max(wait, min(fault.Retry, time.Minute))); err != nil {
			return nil, err
		}
		wait = min(2*wait, mostWait)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
