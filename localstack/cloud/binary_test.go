//go:build aws

package cloud

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"pushcluster/localstack/lambda/runtimeapi"
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/store/storetest"
)

// TestBinary builds the functions as sam does and holds them to their size, and
// to being ready for their first event for 50 ms of processor time, with a store
// and a Redis that are there.
func TestBinary(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	const secret = "0123456789abcdef0123456789abcdef"
	redis := registrytest.Redis(t)
	environment := append(os.Environ(), "SIGNING_SECRETS="+secret, "API_KEYS=shop:"+secret, "TOKEN_KEYS=k1:HS256:"+secret,
		"STORE_URL="+storetest.FerretDB(t), "REDIS_URL="+redis.URL(), "DISPATCH_URL=sqs://dispatch", "AWS_REGION=eu-west-1",
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test")
	tests := map[string]int64{"Auth": 14, "Collect": 25, "Dispatch": 19} // MB
	for name, most := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, arch := range []string{"arm64", "x86_64"} {
				cmd := exec.Command("make", "-s", "build-"+name+"Function", "ARCH="+arch, "ARTIFACTS_DIR="+dir)
				cmd.Dir = root
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("build: %v\n%s", err, out)
				}
				info, err := os.Stat(filepath.Join(dir, "bootstrap"))
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s for %s is %.1f MB", name, arch, float64(info.Size())/1e6)
				holdSize(t, name, arch, info.Size(), most)
			}
			coldStart(t, filepath.Join(dir, "bootstrap"), environment)
		})
	}
}

// holdSize wants size to be below that many MB on arm64, which is what deploys.
// The same code is larger for x86_64, which may have a twentieth more.
func holdSize(t *testing.T, name, arch string, size, most int64) {
	t.Helper()
	limit := most * 1e6
	if arch == "x86_64" {
		limit += limit / 20
	}
	if size > limit {
		t.Errorf("%s for %s is %d bytes, more than %d", name, arch, size, limit)
	}
}

// TestBinaryOfNode holds the push node's image to 20 MB: it is these files, and
// nothing else.
func TestBinaryOfNode(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"arm64", "x86_64"} {
		cmd := exec.Command("make", "-s", "node-files", "ARCH="+arch)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		var size int64
		for _, name := range []string{"pushnode", "ca-certificates.crt"} {
			info, err := os.Stat(filepath.Join(root, ".local/image", name))
			if err != nil {
				t.Fatal(err)
			}
			size += info.Size()
		}
		t.Logf("the image for %s is %.1f MB", arch, float64(size)/1e6)
		holdSize(t, "the push node's image", arch, size, 20)
	}
}

// coldStart starts a function several times and wants the median of the processor
// time until it asks for its first event within 50 ms: what a machine that does
// other things meanwhile keeps it waiting is not the function's fault, and told
// only.
func coldStart(t *testing.T, bootstrap string, environment []string) {
	t.Helper()
	var used, took []time.Duration
	for range 9 {
		e := runtimeapi.New(runtimeapi.Config{Command: []string{bootstrap}, Env: environment, Log: os.Stderr})
		ctx, cancel := context.WithCancel(t.Context())
		before, began := usedByChildren(t), time.Now()
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		select {
		case <-e.Ready():
			took = append(took, time.Since(began))
			cancel()
			<-ended
			used = append(used, usedByChildren(t)-before)
		case err := <-ended:
			cancel()
			t.Fatal(err)
		}
	}
	slices.Sort(used)
	slices.Sort(took)
	median := used[len(used)/2]
	t.Logf("ready for %s of processor time (median of %v), after %s (of %v)", median, used, took[len(took)/2], took)
	if median > 50*time.Millisecond {
		t.Errorf("ready for %s of processor time, want 50 ms", median)
	}
}

// usedByChildren returns the processor time of the children that have ended.
func usedByChildren(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
