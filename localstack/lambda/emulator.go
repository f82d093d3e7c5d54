package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"pushcluster/localstack/lambda/runtimeapi"
)

const functionARN = "arn:aws:lambda:us-east-1:012345678912:function:function"

// An emulator is what sam local invoke talks to.
type emulator struct {
	env    *runtimeapi.Environment
	memory string // MB, as configured
	stderr io.Writer
}

func (e *emulator) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/function/invocations", func(w http.ResponseWriter, r *http.Request) {
		payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 6<<20))
		if err != nil {
			http.Error(w, `{"errorType":"RequestTooLarge"}`, http.StatusRequestEntityTooLarge)
			return
		}
		began := time.Now()
		res, err := e.env.Invoke(r.Context(), payload, functionARN, r.Header.Get("X-Amzn-Trace-Id"))
		if err != nil {
			return // the caller has left
		}
		if res.Failed {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(e.stderr, res.Report(strconv.FormatInt(began.UnixMilli(), 10), e.memory))
		w.Write(res.Payload)
	})
	return mux
}

// serveHTTP serves h on addr until ctx ends.
func serveHTTP(ctx context.Context, addr string, h http.Handler) error {
	server := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
