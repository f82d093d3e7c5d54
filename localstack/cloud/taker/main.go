// Command taker stands at the end of a way to Dispatch, as a Lambda function in
// a test: it confirms what it is handed, as Dispatch does, and tells the test of
// every request.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// Config is the taker's environment.
type Config struct {
	Tell string `env:"TELL,required" help:"URL that gets every request, as it came"`
}

func main() {
	os.Exit(serve.Main(serve.Program[Config]{Name: "taker", About: "confirms hand-offs and tells of them", Run: run}))
}

func run(ctx context.Context, cfg Config, stderr io.Writer) error {
	t := &taker{url: cfg.Tell}
	return serve.Start(ctx, slog.New(slog.NewJSONHandler(stderr, nil)), serve.Events{HTTP: t, Queue: t})
}

// A taker tells url of what it takes.
type taker struct{ url string }

func (t *taker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req push.DispatchRequest
	if p := serve.Decode(w, r, 8<<20, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	if err := t.tell(r.Context(), req); err != nil {
		serve.Problem(w, r, push.NewProblem(push.CodeUnavailable, "the test was not told: %v", err))
		return
	}
	var answer push.DispatchAnswer
	for _, m := range req.Messages {
		answer.Results = append(answer.Results, push.DispatchResult{ID: m.ID})
	}
	serve.JSON(w, http.StatusOK, answer)
}

// TakeQueue takes the items of a batch in their order.
func (t *taker) TakeQueue(ctx context.Context, items []serve.QueueItem) []error {
	errs := make([]error, len(items))
	for i, item := range items {
		var req push.DispatchRequest
		if errs[i] = json.Unmarshal(item.Body, &req); errs[i] == nil {
			req.Again = req.Again || item.Again
			errs[i] = t.tell(ctx, req)
		}
	}
	return errs
}

func (t *taker) tell(ctx context.Context, req push.DispatchRequest) error {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // the data as it came
	if err := e.Encode(req); err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, &body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("told the test, which answered %s", resp.Status)
	}
	return nil
}
