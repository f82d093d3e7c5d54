//go:build linux

package measure

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/bench/target"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRows takes every figure once, with a few connections and for a moment: it
// shows that the load generator and the servers understand each other.
func TestRows(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not on PATH")
	}
	root, err := target.Root()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := target.Build(t.Context(), root, bin); err != nil {
		t.Fatal(err)
	}
	kinds := []target.Kind{
		target.Floor("raw", ""), target.Floor("gepoll", ""), target.Floor("textbook", ""),
		target.Cluster("volatile", "", target.ClusterConfig{}),
		target.Cluster("collect", "", target.ClusterConfig{Nodes: 2, Durable: true, Collect: true}),
	}
	for _, kind := range kinds {
		t.Run(kind.Name, func(t *testing.T) {
			place := target.Place{Bin: bin, Dir: t.TempDir(), CPU: -1}
			runRows(t, kind, place, Rows(), target.Options{})
			runRows(t, kind, place, []Row{Recover()}, target.Options{History: true})
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
