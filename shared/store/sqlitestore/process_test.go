package sqlitestore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
	"pushcluster/shared/store/sqlitestore"
)

// childEnv makes this test's program another process that writes: its value is
// the store's path.
const childEnv = "PUSHCLUSTER_TEST_STORE"

// child inserts messages from four goroutines as fast as it can, and prints the
// id of each that is stored, until its standard input ends.
func child(path string) int {
	s, err := sqlitestore.Open(path, sqlitestore.Config{Timeout: time.Minute})
	if err == nil {
		err = s.Prepare(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), i, n)
				if _, err := s.InsertMessages(context.Background(), []store.Record{lasting(id)}); err != nil {
					fmt.Println("error", err)
					return
				}
				fmt.Println(id)
			}
		})
	}
	all.Wait()
	if err := s.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func lasting(id string) store.Record {
	return store.Record{Message: push.Message{ID: push.MessageID(id), CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}}
}

// A process is a child that writes to a store.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	lines  *bufio.Scanner
	stored []push.MessageID // what it said is stored
}

func start(t *testing.T, path string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &process{cmd: cmd, stdin: stdin, lines: bufio.NewScanner(stdout)}
}

// read notes what the process says until it said n more things or ended.
func (p *process) read(t *testing.T, n int) {
	t.Helper()
	for range n {
		if !p.lines.Scan() {
			return
		}
		line := p.lines.Text()
		if strings.HasPrefix(line, "error") {
			t.Fatalf("the other process failed: %s", line)
		}
		p.stored = append(p.stored, push.MessageID(line))
	}
}

// check fails the test unless everything the process said is stored.
func (p *process) check(t *testing.T, s store.Store) {
	t.Helper()
	got, err := s.LoadMessages(t.Context(), p.stored)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(p.stored) {
		t.Errorf("%d of %d messages are there that the other process had stored", len(got), len(p.stored))
	}
}

// TestProcesses writes beside two processes that write without a pause: each
// gets its turn, and nothing is lost.
func TestProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	others := []*process{start(t, path), start(t, path)}
	s := open(t, path)
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range others {
		p.read(t, 50)
	}
	var reading sync.WaitGroup
	for _, p := range others {
		reading.Go(func() {
			for p.lines.Scan() { // until it ends: a full pipe would stop it
				p.stored = append(p.stored, push.MessageID(p.lines.Text()))
			}
		})
	}
	for i := range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if _, err := s.InsertMessages(ctx, []store.Record{lasting(fmt.Sprint("mine-", i))}); err != nil {
			t.Errorf("write %d beside two other processes: %v", i, err)
		}
		cancel()
	}
	for _, p := range others {
		_ = p.stdin.Close()
	}
	reading.Wait()
	for _, p := range others {
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("the other process: %v", err)
		}
		p.check(t, s)
	}
}

// TestKilled kills a process that writes: what it had answered is there, and
// the file is good.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	p := start(t, path)
	p.read(t, 300)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.read(t, 1<<30)
	_ = p.cmd.Wait()
	s := open(t, path)
	p.check(t, s)
	if _, err := s.InsertMessages(t.Context(), []store.Record{lasting("after")}); err != nil {
		t.Error(err)
	}
}

func TestFileMode(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "store.db"))
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("files %v, %v; want the database, its log and more", files, err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o, want 600", f.Name(), mode)
		}
	}
}

// TestReopen finds everything again in a file that was closed.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	var epochs [2]string
	for i := range epochs {
		s, err := sqlitestore.Open(path, sqlitestore.Config{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := s.InsertMessages(t.Context(), []store.Record{lasting("m")})
		if err != nil || got[0].Repeat != (i == 1) {
			t.Errorf("opening %d: insertion %+v, %v", i, got, err)
		}
		if epochs[i], err = s.Epoch(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if epochs[0] != epochs[1] {
		t.Errorf("the epoch was %s and is %s", epochs[0], epochs[1])
	}
}
