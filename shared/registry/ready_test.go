package registry_test

import (
	"errors"
	"os"
	"testing"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

func TestReady(t *testing.T) {
	tests := map[string]struct {
		policy string
		unsafe bool
	}{
		"noeviction":   {"noeviction", false},
		"volatile-ttl": {"volatile-ttl", false},
		"allkeys-lru":  {"allkeys-lru", true},
	}
	s := registrytest.Redis(t)
	b := newBench(t, s, registry.Config{})
	if s.Mini() == nil {
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				do(t, s, "CONFIG", "SET", "maxmemory-policy", tt.policy)
				if err := b.Ready(t.Context()); errors.Is(err, registry.ErrUnsafePolicy) != tt.unsafe {
					t.Errorf("Ready with %s = %v", tt.policy, err)
				}
			})
		}
		do(t, s, "CONFIG", "SET", "maxmemory-policy", "noeviction")
		do(t, s, "ACL", "SETUSER", "default", "-config")
		if err := b.Ready(t.Context()); err != nil {
			t.Errorf("Ready of a user who may not see the policy: %v", err)
		}
		do(t, s, "ACL", "SETUSER", "default", "-info")
		if err := b.Ready(t.Context()); err == nil {
			t.Error("Ready of a user who may not see the run id succeeded")
		}
	}
	s.Stop()
	if err := b.Ready(t.Context()); err == nil {
		t.Error("Ready without Redis succeeded")
	}
	mini := newBench(t, registrytest.Mini(t), registry.Config{})
	if err := mini.Ready(t.Context()); err != nil {
		t.Errorf("Ready on miniredis, which does not tell its policy: %v", err)
	}
}

func TestClosed(t *testing.T) {
	b := newBench(t, registrytest.Mini(t), registry.Config{})
	b.add(t, "c", "m1")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadLog(t.Context(), registry.LogQuery{Channel: "c"}); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("ReadLog after Close: %v", err)
	}
	if _, err := b.Nodes(t.Context(), []push.NodeID{"n"}); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("Nodes after Close: %v", err)
	}
	if _, err := b.Append(t.Context(), []registry.Item{{Channel: "c", Message: message("m2")}}); err == nil {
		t.Error("Append after Close succeeded")
	}
}

// A test that wants Redis fails where CI says that there must be one.
func TestMissingServerFailsInCI(t *testing.T) {
	if os.Getenv("CI") != "true" {
		t.Skip("only with CI=true")
	}
	if registrytest.Redis(t).Mini() != nil {
		t.Error("CI=true got a miniredis")
	}
}
