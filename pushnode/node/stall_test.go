package node

import (
	"testing"
	"time"
)

func TestForgive(t *testing.T) {
	now := time.Now()
	var idle, waiting client
	waiting.pingSent = now.Add(-time.Minute)
	idle.forgive(now)
	waiting.forgive(now)
	if !idle.pingSent.IsZero() {
		t.Errorf("a client without a ping outstanding got one at %s", idle.pingSent)
	}
	if !waiting.pingSent.Equal(now) {
		t.Errorf("the time for the pong began at %s, want %s", waiting.pingSent, now)
	}
}
