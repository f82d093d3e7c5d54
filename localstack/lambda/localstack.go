package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/localstack/lambda/runtimeapi"
)

// A localStack is the talk with LocalStack, which made this container: it posts
// events to /invoke, and is told how they went.
type localStack struct {
	endpoint string // LocalStack's, for this environment
	id       string // this environment's
	memory   string // MB, as configured
	env      *runtimeapi.Environment
	log      *tap
	client   *http.Client
	events   chan localEvent // taken but not answered
}

type localEvent struct {
	ID      string `json:"invoke-id"`
	ARN     string `json:"invoked-function-arn"`
	Payload string `json:"payload"`
	Trace   string `json:"trace-id"`
}

func newLocalStack(endpoint, id, memory string, env *runtimeapi.Environment, log *tap) *localStack {
	return &localStack{endpoint: endpoint, id: id, memory: memory, env: env, log: log,
		client: &http.Client{Timeout: 10 * time.Second}, events: make(chan localEvent, 16)}
}

// run takes events on addr and answers them in turn, until ctx ends.
func (l *localStack) run(ctx context.Context, addr string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /invoke", func(w http.ResponseWriter, r *http.Request) {
		var ev localEvent
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<20)).Decode(&ev); err != nil || ev.ID == "" {
			http.Error(w, "not an event", http.StatusBadRequest)
			return
		}
		select {
		case l.events <- ev:
		default: // LocalStack sends one at a time
			http.Error(w, "too many events", http.StatusTooManyRequests)
		}
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serveHTTP(ctx, addr, mux) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case ev := <-l.events:
				if err := l.answer(ctx, ev); err != nil {
					return err
				}
			}
		}
	})
	return g.Wait()
}

// answer invokes the function and tells LocalStack, the log first.
func (l *localStack) answer(ctx context.Context, ev localEvent) error {
	res, err := l.env.Invoke(ctx, []byte(ev.Payload), ev.ARN, ev.Trace)
	if err != nil {
		return nil // this environment ends
	}
	text := fmt.Sprintf("START RequestId: %s Version: $LATEST\n%sEND RequestId: %s\n%s", ev.ID, l.log.drain(), ev.ID, res.Report(ev.ID, l.memory))
	logs, err := json.Marshal(map[string]string{"logs": text})
	if err != nil {
		return err
	}
	if err := l.post(ctx, "/invocations/"+ev.ID+"/logs", logs); err != nil {
		return err
	}
	if res.Failed {
		return l.post(ctx, "/invocations/"+ev.ID+"/error", res.Payload)
	}
	return l.post(ctx, "/invocations/"+ev.ID+"/response", res.Payload)
}

// sayReady tells LocalStack when the function waits for events.
func (l *localStack) sayReady(ctx context.Context) error {
	select {
	case <-l.env.Ready():
		return l.post(ctx, "/status/"+l.id+"/ready", nil)
	case <-ctx.Done():
		return nil
	}
}

// sayBroken tells LocalStack that the function could not be started.
func (l *localStack) sayBroken(ctx context.Context, broken error) error {
	if broken == nil {
		return nil
	}
	body, err := json.Marshal(map[string]string{"errorType": "Runtime.InitError", "errorMessage": broken.Error() + "\n" + l.log.drain()})
	if err != nil {
		return err
	}
	if err := l.post(context.WithoutCancel(ctx), "/status/"+l.id+"/error", body); err != nil {
		return err
	}
	return broken
}

func (l *localStack) post(ctx context.Context, path string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return fmt.Errorf("tell LocalStack: %w", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("tell LocalStack %s: status %d", path, resp.StatusCode)
	}
	return nil
}
