//go:build linux

package proc

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProcess(t *testing.T) {
	p, err := Start(t.Context(), Spec{Name: "busy", Path: "/bin/sh", Args: []string{"-c", "while :; do :; done"}, Dir: t.TempDir(), CPU: 0})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	end := time.Now().Add(20 * time.Second)
	for { // it works until it is stopped, so this ends
		used, err := p.CPU()
		if err != nil {
			t.Fatal(err)
		}
		if used > 20*time.Millisecond {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a busy process used %v in 20 s", used)
		}
	}
	if rss, err := p.RSS(); err != nil || rss < 100<<10 || rss > 1<<30 {
		t.Errorf("a shell has %d bytes resident, %v", rss, err)
	}
	if err := p.Check(); err != nil {
		t.Errorf("Check of a process that runs: %v", err)
	}
	status, err := os.ReadFile("/proc/" + pidOf(p) + "/status")
	if err != nil || !strings.Contains(string(status), "Cpus_allowed_list:\t0\n") {
		t.Errorf("the process is not on core 0 alone, %v", err)
	}
	p.Stop()
	if err := p.Check(); err == nil {
		t.Error("Check of a process that was stopped: nil")
	}
}

func TestStartFails(t *testing.T) {
	never := func(context.Context) error { return errors.New("not yet") }
	_, err := Start(t.Context(), Spec{Name: "brief", Path: "/bin/sh", Args: []string{"-c", "echo oh no; exit 3"}, Dir: t.TempDir(), CPU: -1, Ready: never})
	if err == nil || !strings.Contains(err.Error(), "oh no") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Start of what ends at once: %v, want what it said and how it ended", err)
	}
	if _, err := Start(t.Context(), Spec{Name: "missing", Path: "/nowhere/at/all", Dir: t.TempDir(), CPU: -1}); err == nil {
		t.Error("Start of what does not exist succeeded")
	}
}

func FuzzRSSIn(f *testing.F) {
	f.Add([]byte("00400000-7ffd ---p 00000000 00:00 0 [rollup]\nRss:     1234 kB\nPss: 1 kB\n"))
	f.Add([]byte("Rss: kB"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := rssIn(b); err == nil && n < -1<<62 {
			t.Fatal(n)
		}
	})
}

func pidOf(p *Process) string { return strconv.Itoa(p.cmd.Process.Pid) }
