//go:build linux

// Package proc starts the processes that are measured, each on the core that it
// is given, and tells what they cost.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long a process may take to become ready, and to end once it was told to.
const (
	readyTime = 20 * time.Second
	stopTime  = 10 * time.Second
)

// A Spec says how to start a process.
type Spec struct {
	Name string // of its column
	Path string
	Args []string
	Env  []string // besides PATH, HOME and TMPDIR
	Dir  string   // where its log goes
	CPU  int      // the core it may run on; negative: any
	// Ready reports nil once the process can be used; nil means at once.
	Ready func(context.Context) error
}

// A Process is one started process.
type Process struct {
	Name  string
	Log   string // path of what it wrote
	cmd   *exec.Cmd
	ended chan struct{} // closed once it has ended
	err   error         // why; read after ended
}

// Start starts a process and waits until it is ready. It dies with this one.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	log := filepath.Join(spec.Dir, spec.Name+".log")
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the process has its own descriptor
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Dir = spec.Dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + spec.Dir}, spec.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := startOn(cmd, spec.CPU); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p := &Process{Name: spec.Name, Log: log, cmd: cmd, ended: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	if err := p.awaitReady(ctx, spec.Ready); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// startOn starts cmd from a thread that runs on that core, which the process
// inherits.
func startOn(cmd *exec.Cmd, cpu int) error {
	if cpu < 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read affinity: %w", err)
	}
	var only unix.CPUSet
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("run on core %d: %w", cpu, err)
	}
	err := cmd.Start()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

func (p *Process) awaitReady(ctx context.Context, ready func(context.Context) error) error {
	if ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready: %v: %s", p.Name, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %v: %w: %s", p.Name, readyTime, err, p.tail())
		case <-time.After(10 * time.Millisecond): // nobody announces it
		}
	}
}

// tail returns the end of what the process wrote.
func (p *Process) tail() string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-800):])
}

// Stop ends the process and waits until it is gone: gently, then not.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(stopTime):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // with whatever it started
	<-p.ended
}

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

// Check returns why the process is gone, nil while it runs.
func (p *Process) Check() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %v: %s", p.Name, p.err, p.tail())
	default:
		return nil
	}
}

// CPU returns the processor time that the process has used, in user and kernel,
// to the nanosecond: its clock in the kernel's own numbering of clocks.
func (p *Process) CPU() (time.Duration, error) {
	var ts unix.Timespec
	const scheduler = 2
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|scheduler), &ts); err != nil {
		return 0, fmt.Errorf("read the processor time of %s: %w", p.Name, err)
	}
	return time.Duration(ts.Nano()), nil
}

// RSS returns the resident memory of the process in bytes.
func (p *Process) RSS() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", p.Name, err)
	}
	kib, err := rssIn(b)
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", p.Name, err)
	}
	return kib << 10, nil
}

// rssIn reads the Rss line of a smaps_rollup, in KiB.
func rssIn(b []byte) (int64, error) {
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("Rss:")); ok {
			fields := bytes.Fields(rest)
			if len(fields) != 2 || string(fields[1]) != "kB" {
				break
			}
			return strconv.ParseInt(string(fields[0]), 10, 64)
		}
	}
	return 0, errors.New("no Rss line")
}

// PinSelf has this program run on one core from its start: it replaces itself
// by a copy that begins there, unless it already did. Afterwards all its threads
// are there.
func PinSelf(cpu int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var now, want unix.CPUSet
	if err := unix.SchedGetaffinity(0, &now); err != nil {
		return fmt.Errorf("read affinity: %w", err)
	}
	want.Set(cpu)
	if now == want {
		return nil
	}
	if err := unix.SchedSetaffinity(0, &want); err != nil {
		return fmt.Errorf("run on core %d: %w", cpu, err)
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	return fmt.Errorf("start again on core %d: %w", cpu, syscall.Exec(path, os.Args, os.Environ()))
}
