// Package runtimeapi runs a Lambda function on this machine: it starts the
// function's bootstrap, serves it the Lambda Runtime API on a loopback port, and
// invokes it.
//
// It is one execution environment: one event at a time, a bootstrap that dies is
// started again for the next event, one that takes too long is killed.
package runtimeapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// ErrInit means that a function never asked for its first event.
var ErrInit = errors.New("the function did not start")

// A Config says which function is run.
type Config struct {
	Command []string      // the bootstrap and its arguments
	Env     []string      // its environment, to which AWS_LAMBDA_RUNTIME_API is added
	Dir     string        // its working directory; empty: this process'
	Timeout time.Duration // for one event; 0 means 30 s
	Init    time.Duration // until the first event is asked for; 0 means 10 s
	Log     io.Writer     // gets what the function prints; nil: nobody
}

// An Environment is one running function. Make one with [New], run it with Run,
// and invoke it meanwhile.
type Environment struct {
	cfg    Config
	events chan *invocation // unbuffered: taken by the function's next
	ready  chan struct{}    // closed when the function has asked for its first event
	once   sync.Once

	invoking sync.Mutex // held while an event is answered

	mu      sync.Mutex  // guards what follows
	pending *invocation // what the function has and has not answered
	process *os.Process
	began   time.Time     // of the process, until it asks for its first event
	init    time.Duration // that it took to do so, until it takes an event
	initErr []byte        // what the function said of a failed start
}

// An invocation is one event on its way.
type invocation struct {
	id, arn, trace string
	payload        []byte
	init           time.Duration // that the function took to start; set when it takes the event
	done           chan Result   // of size 1; gets one result
}

// A Result is what became of an event.
type Result struct {
	Payload []byte // the function's answer, or a JSON object that tells its error
	Failed  bool
	Took    time.Duration
	Init    time.Duration // that the function took to start; 0 if it had events before
	Memory  int64         // the most bytes that the function held so far; 0: unknown
}

// New returns an environment. It starts nothing.
func New(cfg Config) *Environment {
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Init == 0 {
		cfg.Init = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	return &Environment{cfg: cfg, events: make(chan *invocation), ready: make(chan struct{})}
}

// Ready is closed once the function has asked for its first event.
func (e *Environment) Ready() <-chan struct{} { return e.ready }

// Run starts the function and keeps it running until ctx ends, which returns
// nil. It fails with [ErrInit] if the function ends, or takes too long, before it
// asks for an event; the error then tells what the function said of it.
func (e *Environment) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: e.api(), BaseContext: func(net.Listener) context.Context { return ctx }}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(l)
	}()
	defer func() {
		cancel()
		server.Close()
		<-served
	}()
	late := time.AfterFunc(e.cfg.Init, func() {
		select {
		case <-e.ready:
		default:
			e.kill()
		}
	})
	defer late.Stop()
	for {
		err := e.runOnce(ctx, l.Addr().String())
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-e.ready:
		default:
			e.mu.Lock()
			defer e.mu.Unlock()
			return fmt.Errorf("%w: %v %s", ErrInit, err, e.initErr)
		}
		// As on Lambda, the event that it died of has failed, and the next one
		// finds a new process.
		e.finish("", Result{Failed: true, Payload: failure("Runtime.ExitError", fmt.Sprintf("the function ended: %v", err))})
	}
}

// runOnce runs the bootstrap until it ends.
func (e *Environment) runOnce(ctx context.Context, api string) error {
	cmd := exec.CommandContext(ctx, e.cfg.Command[0], e.cfg.Command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 2 * time.Second
	cmd.Dir = e.cfg.Dir
	cmd.Env = append(e.cfg.Env[:len(e.cfg.Env):len(e.cfg.Env)], "AWS_LAMBDA_RUNTIME_API="+api)
	cmd.Stdout, cmd.Stderr = e.cfg.Log, e.cfg.Log
	e.mu.Lock()
	e.began = time.Now()
	e.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	e.mu.Lock()
	e.process = cmd.Process
	e.mu.Unlock()
	return cmd.Wait()
}

// Invoke hands the function one event and returns what became of it. It waits
// for events before it, and for the function to start; its error is ctx'.
func (e *Environment) Invoke(ctx context.Context, payload []byte, arn, trace string) (Result, error) {
	e.invoking.Lock()
	defer e.invoking.Unlock()
	inv := &invocation{id: newID(), arn: arn, trace: trace, payload: payload, done: make(chan Result, 1)}
	select {
	case e.events <- inv:
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	start := time.Now()
	timeout := time.NewTimer(e.cfg.Timeout)
	defer timeout.Stop()
	var res Result
	select {
	case res = <-inv.done:
	case <-timeout.C:
		// Before it is killed: else its end may be taken for why the event failed.
		e.finish(inv.id, Result{Failed: true, Payload: failure("Sandbox.Timedout",
			fmt.Sprintf("Task timed out after %.2f seconds", e.cfg.Timeout.Seconds()))})
		e.kill()
		res = <-inv.done
	case <-ctx.Done():
		e.finish(inv.id, Result{})
		e.kill()
		return Result{}, ctx.Err()
	}
	res.Took = time.Since(start)
	res.Init = inv.init
	res.Memory = e.memory()
	return res, nil
}

// finish ends the event of that id with r, if it is still under way; an empty
// id stands for any.
func (e *Environment) finish(id string, r Result) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pending == nil || (id != "" && e.pending.id != id) {
		return false
	}
	e.pending.done <- r
	e.pending = nil
	return true
}

func (e *Environment) kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process != nil {
		e.process.Kill()
	}
}

// memory returns the most bytes that the function's process held in memory.
func (e *Environment) memory() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return 0
	}
	return highWater(e.process.Pid)
}

// api serves the Lambda Runtime API, version 2018-06-01.
func (e *Environment) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		if !e.began.IsZero() {
			e.init, e.began = time.Since(e.began), time.Time{}
		}
		e.mu.Unlock()
		e.once.Do(func() { close(e.ready) })
		select {
		case inv := <-e.events:
			e.mu.Lock()
			e.pending = inv
			inv.init, e.init = e.init, 0
			e.mu.Unlock()
			h := w.Header()
			h.Set("Content-Type", "application/json")
			h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
			h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(e.cfg.Timeout).UnixMilli(), 10))
			h.Set("Lambda-Runtime-Invoked-Function-Arn", inv.arn)
			h.Set("Lambda-Runtime-Trace-Id", inv.trace)
			w.Write(inv.payload)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler) // an empty answer would be an event
		}
	})
	end := func(failed bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || !e.finish(r.PathValue("id"), Result{Payload: body, Failed: failed}) {
				http.Error(w, `{"errorType":"InvalidRequestID"}`, http.StatusBadRequest)
				return
			}
			w.WriteHeader(http.StatusAccepted)
		}
	}
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", end(false))
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", end(true))
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		e.mu.Lock()
		e.initErr = body
		e.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	})
	return mux
}

// failure is how Lambda tells a caller what went wrong.
func failure(kind, message string) []byte {
	raw, _ := json.Marshal(map[string]string{"errorType": kind, "errorMessage": message})
	return raw
}

// Report is the line that Lambda writes into the log for an event. Starting is
// billed too. memory is what the function has, in MB.
func (r Result) Report(id, memory string) string {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	line := fmt.Sprintf("REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %.0f ms\tMemory Size: %s MB\tMax Memory Used: %d MB",
		id, ms(r.Took), math.Ceil(ms(r.Took+r.Init)), memory, r.Memory>>20)
	if r.Init > 0 {
		line += fmt.Sprintf("\tInit Duration: %.2f ms", ms(r.Init))
	}
	return line + "\n"
}

// newID returns a random UUID, version 4.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
