package storetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// How long the parts of a start may take.
const (
	buildTime = 15 * time.Minute // a hundred modules, once per machine
	startTime = time.Minute
	stopTime  = time.Minute
)

// FerretDB starts a FerretDB process with a directory of its own, for the
// length of the test, and returns the STORE_URL of an empty database on it.
//
// It builds the program of localstack/ferretdb once per machine, into the
// user's cache directory, which takes minutes; test processes at the same time
// wait for the one that builds. Where it cannot be built the test is skipped,
// or, with CI=true, fails.
func FerretDB(t testing.TB) string {
	t.Helper()
	program, err := FerretDBProgram(t.Logf)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("build FerretDB: %v", err)
		}
		t.Skipf("skipped, because FerretDB cannot be built here: %v", err)
	}
	uri, err := startFerretDB(t, program)
	if err != nil {
		t.Fatalf("start FerretDB: %v", err)
	}
	return strings.TrimSuffix(uri, "/") + "/pushcluster?maxUpdates=40"
}

// FerretDBProgram returns the path of FerretDB's program, which it builds first
// where that is still to be done, and says so by logf. [FerretDB] is what most
// tests want.
func FerretDBProgram(logf func(format string, args ...any)) (string, error) {
	source, err := ferretdbSource()
	if err != nil {
		return "", err
	}
	sum, err := sourceSum(source)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "pushcluster")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	program := filepath.Join(cache, "ferretdb-"+sum)
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}

	lock, err := os.OpenFile(filepath.Join(cache, "ferretdb.lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close() // gives up the lock
	if err := lockFile(lock); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil // somebody built it meanwhile
	}
	logf("building %s, once: this takes minutes", program)
	return program, buildProgram(source, program)
}

// buildProgram builds the module in source as program, which appears whole or
// not at all.
func buildProgram(source, program string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	half := program + ".part"
	defer os.Remove(half)
	build := exec.CommandContext(ctx, "go", "build", "-tags", "ferretdb_no_postgresql", "-trimpath", "-o", half, ".")
	build.Dir = source
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s in %s: %w\n%s", build, source, err, out)
	}
	return os.Rename(half, program)
}

// ferretdbSource returns the directory of FerretDB's module in this
// repository, which tests run somewhere in.
func ferretdbSource() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		source := filepath.Join(dir, "localstack", "ferretdb")
		if _, err := os.Stat(filepath.Join(source, "go.mod")); err == nil {
			return source, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no localstack/ferretdb above the working directory")
		}
		dir = parent
	}
}

// sourceSum names what is built: the module's source and its dependencies, and
// what builds it.
func sourceSum(source string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := d.Name()
		if name != "go.mod" && name != "go.sum" && filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		fmt.Fprintln(sum, filepath.Base(path), len(text))
		sum.Write(text)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:8]), err
}

// startFerretDB starts program and returns the URL that it prints. The process
// ends with the test, and with this process.
func startFerretDB(t testing.TB, program string) (string, error) {
	cmd := exec.Command(program, "-dir", t.TempDir(), "-stdin")
	stdin, err := cmd.StdinPipe() // its end tells the process that we are gone
	if err != nil {
		return "", err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return "", err
	}
	line := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		r := bufio.NewReader(stdout)
		first, _ := r.ReadString('\n')
		line <- strings.TrimSpace(first)
		_, _ = io.Copy(io.Discard, r)
	})
	t.Cleanup(func() {
		timer := time.AfterFunc(stopTime, func() {
			t.Errorf("FerretDB did not end within %v of being told to; killing it", stopTime)
			_ = cmd.Process.Kill()
		})
		defer timer.Stop()
		_ = stdin.Close()
		reading.Wait()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("FerretDB ended: %v\n%s", err, stderr.tail())
		}
	})

	select {
	case uri := <-line:
		if !strings.HasPrefix(uri, "mongodb://") {
			return "", fmt.Errorf("it printed %q instead of its URL\n%s", uri, stderr.tail())
		}
		return uri, nil
	case <-time.After(startTime):
		return "", fmt.Errorf("it printed no URL within %v\n%s", startTime, stderr.tail())
	}
}

// A lockedBuffer keeps what a process writes while others look at it.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

// tail returns the last lines.
func (b *lockedBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := slices.Collect(strings.Lines(b.all.String()))
	return strings.Join(lines[max(0, len(lines)-20):], "")
}
