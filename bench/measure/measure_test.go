//go:build linux

package measure

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/bench/target"
	"pushcluster/localstack/build"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRows takes most figures once, with a few connections and for a moment: it
// shows that the load generator and the servers understand each other.
func TestRows(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not on PATH, and CI=true")
		}
		t.Skip("redis-server is not on PATH")
	}
	root, err := build.Root()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := build.Programs(t.Context(), root, bin, "", "./bench/floors", "./bench/volatile"); err != nil {
		t.Fatal(err)
	}
	// The rows that measure at half of what another row found need a machine
	// that does nothing else.
	most := []string{"connect", "memory", "unicast", "batched", "latency", "fanout", "broadcast"}
	tests := map[string]struct {
		kind    target.Kind
		rows    []string
		recover bool
	}{
		"floor":    {target.Floor("gepoll", ""), most, true},
		"raw":      {target.Floor("raw", ""), []string{"connect", "unicast"}, false},
		"textbook": {target.Floor("textbook", ""), []string{"connect", "unicast"}, false},
		"path":     {target.Path("path", ""), []string{"connect", "memory", "unicast", "batched", "latency"}, false},
		"cluster":  {target.Cluster("node", "", target.ClusterConfig{}), most, true},
		"two nodes, through Collect": {target.Cluster("collect", "", target.ClusterConfig{Nodes: 2, Durable: true, Collect: true}),
			[]string{"connect", "unicast", "batched", "fanout"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rows := slices.DeleteFunc(Rows(), func(r Row) bool { return !slices.Contains(tt.rows, r.ID) })
			runRows(t, tt.kind, target.Place{Bin: bin, Dir: t.TempDir(), CPU: -1}, rows, target.Options{})
			if tt.recover {
				runRows(t, tt.kind, target.Place{Bin: bin, Dir: t.TempDir(), CPU: -1}, []Row{Recover()}, target.Options{History: true})
			}
		})
	}
}

func runRows(t *testing.T, kind target.Kind, place target.Place, rows []Row, opts target.Options) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := kind.Start(ctx, place, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	const connections = 40
	tokens, err := target.Tokens(connections, nil)
	if err != nil {
		t.Fatal(err)
	}
	rig, err := NewRig(Config{Span: 100 * time.Millisecond, Batch: 10, Parallel: 4, Broadcasts: 3, Rate: 200}, server, tokens)
	if err != nil {
		t.Fatal(err)
	}
	defer rig.Close()
	for _, row := range rows {
		f, err := rig.Run(ctx, row)
		if errors.Is(err, target.ErrNotOffered) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Log(row.ID, f)
	}
}
