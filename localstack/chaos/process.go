package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// How long a process may take to become ready, and to end after it was told to.
const (
	readyTime = 20 * time.Second
	stopTime  = 40 * time.Second
)

// A process is one program of the cluster. A restart is the same process here,
// on the same ports. Its methods may be called by several goroutines, but two
// must not change whether it runs at the same time.
type process struct {
	name    string
	program string
	args    []string
	env     []string
	log     string // path of the file that takes its output
	ready   string // URL that answers 200 once it is ready; empty: at once
	metrics string // URL of its /metrics; empty: none

	mu    sync.Mutex // guards what follows
	cmd   *exec.Cmd  // nil while it does not run
	ended chan struct{}
	fault error // it ended without being told to
	exit  error // how it ended last
	asked bool  // it was told to end
	lives int
}

// start starts the process and waits until it is ready.
func (p *process) start(ctx context.Context) error {
	if err := p.launch(); err != nil {
		return err
	}
	return p.awaitReady(ctx)
}

func (p *process) launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("%s runs already", p.name)
	}
	out, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // the process has its own descriptor
	cmd := exec.Command(p.program, p.args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + filepath.Dir(p.log)}, p.env...)
	cmd.Stdout, cmd.Stderr = out, out
	alone(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.asked, p.ended = cmd, false, make(chan struct{})
	p.lives++
	go p.wait(cmd, p.ended)
	return nil
}

// wait notes how the process ended.
func (p *process) wait(cmd *exec.Cmd, ended chan struct{}) {
	err := cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.exit = nil, err
	if !p.asked {
		p.fault = fmt.Errorf("%s ended by itself: %v", p.name, err)
	}
	close(ended)
}

func (p *process) awaitReady(ctx context.Context) error {
	if p.ready == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		if isReady(ctx, p.ready) {
			return nil
		}
		if !p.running() {
			return fmt.Errorf("%s ended before it was ready: see %s", p.name, p.log)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %v: see %s", p.name, readyTime, p.log)
		case <-time.After(20 * time.Millisecond): // nobody announces it
		}
	}
}

// probe asks once whether a process is ready. It keeps no connections, for the
// process may be another one the next time.
var probe = &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func isReady(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := probe.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode == http.StatusOK
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// signal sends sig and reports whether there was a process to take it.
func (p *process) signal(sig os.Signal, ends bool) (ended <-chan struct{}, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil, false
	}
	if ends {
		p.asked = true
	}
	_ = p.cmd.Process.Signal(sig) // it may have ended just now
	return p.ended, true
}

// kill ends the process at once and waits until it is gone.
func (p *process) kill() {
	if ended, ok := p.signal(os.Kill, true); ok {
		<-ended
	}
}

// stop tells the process to end, as a deployment does, and waits for it. It is
// to exit with 0.
func (p *process) stop() error {
	ended, ok := p.signal(sigStop, true)
	if !ok {
		return fmt.Errorf("%s does not run", p.name)
	}
	select {
	case <-ended:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.exit != nil {
			return fmt.Errorf("%s, told to end, ended with %w", p.name, p.exit)
		}
		return nil
	case <-time.After(stopTime):
		p.kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", p.name, stopTime)
	}
}

func (p *process) freeze() { p.signal(sigFreeze, false) }
func (p *process) thaw()   { p.signal(sigThaw, false) }

// check returns an error if the process ended without being told to.
func (p *process) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}
