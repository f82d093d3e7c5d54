package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pushcluster/pushctl/api"
	"pushcluster/shared/push"
)

// A collect takes arrays as Collect does: each message under its id once. It
// fails as it is told.
type collect struct {
	arrays [][]byte
	got    []string // ids, in order
	faults []error  // of the next requests
	short  bool     // answers one message less
}

func (c *collect) SendAll(_ context.Context, array []byte) (api.Answer[[]api.Item[api.Accepted]], error) {
	var answer api.Answer[[]api.Item[api.Accepted]]
	c.arrays = append(c.arrays, bytes.Clone(array))
	if len(c.faults) > 0 {
		fault := c.faults[0]
		c.faults = c.faults[1:]
		if fault != nil {
			return answer, fault
		}
	}
	var messages []struct {
		ID   string
		Data *json.RawMessage
	}
	if err := json.Unmarshal(array, &messages); err != nil {
		return answer, fmt.Errorf("the array is no JSON: %w", err)
	}
	for _, m := range messages {
		a := api.Accepted{ID: push.MessageID("key/" + m.ID)}
		if m.Data == nil {
			a = api.Accepted{Code: push.CodeInvalidMessage, Detail: "data is missing"}
		} else {
			c.got = append(c.got, m.ID)
		}
		answer.Value = append(answer.Value, api.Item[api.Accepted]{Value: a})
	}
	if c.short {
		answer.Value = answer.Value[1:]
	}
	return answer, nil
}

// send runs a batch and returns what became of each line, as "LINE ID CODE".
func send(t *testing.T, in string, to *collect) (told []string, waited []time.Duration, err error) {
	t.Helper()
	err = Run(t.Context(), iotest.HalfReader(strings.NewReader(in)), to, Config{
		Key:  "k",
		Told: func(o Outcome) { told = append(told, fmt.Sprintf("%d %s%s", o.Line, o.ID, o.Code)) },
		Pause: func(_ context.Context, d time.Duration) error {
			waited = append(waited, d)
			return nil
		},
	})
	return told, waited, err
}

func TestRun(t *testing.T) {
	long := `{"data":"` + strings.Repeat("x", MaxLine) + `"}`
	tests := map[string]struct {
		in   string
		want []string
	}{
		"nothing":        {"", nil},
		"empty lines":    {"\n \n\r\n", nil},
		"one":            {`{"data":1}`, []string{"1 key/k/1"}},
		"an id of ours":  {"{\"data\":1}\n{\"data\":2}\n", []string{"1 key/k/1", "2 key/k/2"}},
		"an id of yours": {`{"id":"mine","data":1}`, []string{"1 key/mine"}},
		"no id of yours": {`{"id":null,"data":1}`, []string{"1 key/k/1"}},
		"in capitals":    {"{\"ID\":\"mine\",\"data\":1}\n{\"ID\":null,\"data\":2}", []string{"1 key/mine", "2 key/k/2"}},
		"no JSON":        {"{\"data\":1}\nx\n{\"data\":2}", []string{"1 key/k/1", "2 bad_json", "3 key/k/3"}},
		"no object":      {"[1]\nnull\n{}\n", []string{"1 bad_json", "2 bad_json", "3 invalid_message"}},
		"refused":        {"{\"to\":1}\n{\"data\":2}\n", []string{"1 invalid_message", "2 key/k/2"}},
		"a long line":    {long + "\n{\"data\":2}\n", []string{"1 bad_json", "2 key/k/2"}},
		"a long end":     {"{\"data\":1}\n" + long, []string{"1 key/k/1", "2 bad_json"}},
		"windows":        {"{\"data\":1}\r\n{\"data\":2}\r\n", []string{"1 key/k/1", "2 key/k/2"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			told, _, err := send(t, tt.in, &collect{})
			if err != nil || !slices.Equal(told, tt.want) {
				t.Errorf("Run = %q, %v, want %q", told, err, tt.want)
			}
		})
	}
}

// Requests keep below Collect's limits, and messages their order.
func TestParts(t *testing.T) {
	tests := map[string]struct {
		line     string
		lines    int
		requests int
	}{
		"by number": {`{"data":1}`, 2500, 3},
		"by size":   {`{"data":"` + strings.Repeat("x", 60_000) + `"}`, 40, 3},
		"exactly":   {`{"data":1}`, 1000, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			to := &collect{}
			told, _, err := send(t, strings.Repeat(tt.line+"\n", tt.lines), to)
			if err != nil || len(told) != tt.lines || len(to.arrays) != tt.requests {
				t.Fatalf("%d outcomes of %d requests, %v, want %d of %d", len(told), len(to.arrays), err, tt.lines, tt.requests)
			}
			for _, array := range to.arrays {
				if len(array) > 1<<20 {
					t.Errorf("a request has %d bytes", len(array))
				}
			}
			for i, id := range to.got {
				if want := fmt.Sprintf("k/%d", i+1); id != want {
					t.Fatalf("message %d has the id %s, want %s", i, id, want)
				}
			}
		})
	}
}

// What was perhaps not heard is sent again under the same ids, after a while.
func TestAgain(t *testing.T) {
	away := &api.Error{Service: "Collect", Status: 503, Problem: push.NewProblem(push.CodeUnavailable, "the store is away"), Retry: 3 * time.Second}
	lost := &api.Error{Service: "Collect", URL: "x", Err: errors.New("connection reset")}
	refused := &api.Error{Service: "Collect", Status: 401, Problem: push.NewProblem(push.CodeUnauthorized, "no")}
	tests := map[string]struct {
		faults []error
		tries  int
		waited []time.Duration
		err    error
	}{
		"at once":     {nil, 1, nil, nil},
		"lost":        {[]error{lost, lost}, 3, []time.Duration{250 * time.Millisecond, 500 * time.Millisecond}, nil},
		"Retry-After": {[]error{away}, 2, []time.Duration{3 * time.Second}, nil},
		"for good":    {slices.Repeat([]error{lost}, 100), 8, nil, lost},
		"refused":     {[]error{refused}, 1, nil, refused},
		"our mistake": {[]error{context.Canceled}, 1, nil, context.Canceled},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			to := &collect{faults: tt.faults}
			told, waited, err := send(t, "{\"data\":1}\n", to)
			if !errors.Is(err, tt.err) || len(to.arrays) != tt.tries || (err == nil) != (len(told) == 1) {
				t.Errorf("after %d tries Run = %q, %v, want %d tries and %v", len(to.arrays), told, err, tt.tries, tt.err)
			}
			if tt.waited != nil && !slices.Equal(waited, tt.waited) {
				t.Errorf("waited %v, want %v", waited, tt.waited)
			}
			for _, array := range to.arrays {
				if !bytes.Equal(array, to.arrays[0]) {
					t.Errorf("sent %s and then %s", to.arrays[0], array)
				}
			}
		})
	}
	t.Run("too few answers", func(t *testing.T) {
		if told, _, err := send(t, "{\"data\":1}\n", &collect{short: true}); err == nil || told != nil {
			t.Errorf("Run = %q, %v, want an error", told, err)
		}
	})
	t.Run("a file that breaks off", func(t *testing.T) {
		to := &collect{}
		err := Run(t.Context(), iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("{}"))), to, Config{Key: "k", Told: func(Outcome) {}})
		if !errors.Is(err, iotest.ErrTimeout) {
			t.Errorf("Run = %v, want the reader's error", err)
		}
	})
}

// FuzzRun reads anybody's file: what is sent is an array of objects with ids,
// and every line that is not empty has an outcome.
func FuzzRun(f *testing.F) {
	f.Add([]byte("{\"data\":1}\n\nx\n{\"id\":7}"))
	f.Add([]byte("{\"a\":{}}\r\n[]\n{\"id\":null}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		lines := 0
		for line := range bytes.SplitSeq(in, []byte("\n")) {
			if len(bytes.TrimSpace(line)) > 0 {
				lines++
			}
		}
		outcomes, last := 0, 0
		err := Run(t.Context(), bytes.NewReader(in), anything{}, Config{Key: "k", Told: func(o Outcome) {
			outcomes++
			if o.Line <= last {
				t.Errorf("line %d comes after line %d", o.Line, last)
			}
			last = o.Line
		}})
		if err != nil || outcomes != lines {
			t.Errorf("%d outcomes of %d lines, %v", outcomes, lines, err)
		}
	})
}

// anything accepts whatever is an array of objects with an id.
type anything struct{}

func (anything) SendAll(_ context.Context, array []byte) (api.Answer[[]api.Item[api.Accepted]], error) {
	var answer api.Answer[[]api.Item[api.Accepted]]
	var messages []map[string]json.RawMessage
	if err := json.Unmarshal(array, &messages); err != nil {
		return answer, err
	}
	for _, m := range messages {
		if _, ok := m["id"]; !ok {
			return answer, fmt.Errorf("a message without id: %v", m)
		}
	}
	answer.Value = make([]api.Item[api.Accepted], len(messages))
	return answer, nil
}
