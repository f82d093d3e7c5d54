package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
)

// asStopped, in the environment, makes a process of this test the program that
// beStopped runs.
const asStopped = "PUSHCLUSTER_TEST_STOPPED"

// beStopped is a program that says what it does: it runs until it is told to stop,
// and then has still to do what a line on stdin ends.
func beStopped() int {
	return Main(Program[struct{}]{Name: "stopped", About: "a test", Run: func(ctx context.Context, _ struct{}, stderr io.Writer) error {
		fmt.Fprintf(os.Stdout, "runs, SIGHUP ignored: %v\n", signal.Ignored(syscall.SIGHUP))
		<-ctx.Done()
		fmt.Fprintln(os.Stdout, "drains")
		_, err := bufio.NewReader(os.Stdin).ReadString('\n')
		fmt.Fprintln(os.Stdout, "drained")
		return err
	}})
}

// A signal to stop lets a program end what it has to, with whatever else comes as a
// terminal closes.
func TestStopped(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such signals")
	}
	hangup, terminate := syscall.SIGHUP, syscall.SIGTERM
	// What is caught here is not ignored there, should the tests run with nohup.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, hangup)
	defer signal.Stop(caught)
	tests := map[string]struct {
		shell   string // what starts it
		signals []syscall.Signal
		unread  bool // nobody reads its output any more
		ignored bool
		ended   bool // by a signal, before it has done what it had to
	}{
		"SIGTERM":                  {signals: []syscall.Signal{terminate}},
		"SIGINT":                   {signals: []syscall.Signal{syscall.SIGINT}},
		"a terminal closes":        {signals: []syscall.Signal{hangup}},
		"its shell says so, too":   {signals: []syscall.Signal{hangup, hangup}},
		"its output goes":          {signals: []syscall.Signal{hangup}, unread: true},
		"twice":                    {signals: []syscall.Signal{terminate, terminate}, ended: true},
		"a closed one, then again": {signals: []syscall.Signal{hangup, terminate}, ended: true},
		"with nohup":               {shell: "trap '' HUP;", signals: []syscall.Signal{hangup, terminate}, ignored: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", tt.shell+` exec "$0"`, os.Args[0])
			cmd.Env = append(os.Environ(), asStopped+"=1", "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
			cmd.Stderr = t.Output()
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			said := bufio.NewReader(out)
			hear := func(want string) {
				t.Helper()
				if got, err := said.ReadString('\n'); got != want+"\n" {
					t.Fatalf("it says %q, %v, want %q", got, err, want)
				}
			}
			hear(fmt.Sprintf("runs, SIGHUP ignored: %v", tt.ignored))
			if tt.unread {
				out.Close()
			}
			for i, s := range tt.signals {
				cmd.Process.Signal(s)
				if !tt.unread && i == 0 && !tt.ignored {
					hear("drains")
				}
			}
			if tt.ignored {
				hear("drains")
			}
			if tt.ended {
				said.ReadString('\n') // to the end
			} else {
				io.WriteString(stdin, "\n")
			}
			if !tt.ended && !tt.unread {
				hear("drained")
			}
			err = cmd.Wait()
			if !tt.ended && err != nil {
				t.Errorf("it ended with %v, want 0", err)
			}
			if status := cmd.ProcessState.Sys().(syscall.WaitStatus); tt.ended && (!status.Signaled() || status.Signal() != terminate) {
				t.Errorf("it ended with %v, want SIGTERM", err)
			}
		})
	}
}
