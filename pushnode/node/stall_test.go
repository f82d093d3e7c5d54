package node

import (
	"testing"
	"time"
)

func TestForgive(t *testing.T) {
	const now = moment(time.Hour)
	var idle, waiting client
	waiting.pingSent = now.after(-time.Minute)
	idle.forgive(now)
	waiting.forgive(now)
	if idle.pingSent != 0 {
		t.Errorf("a client without a ping outstanding got one at %d", idle.pingSent)
	}
	if waiting.pingSent != now {
		t.Errorf("the time for the pong began at %d, want %d", waiting.pingSent, now)
	}
}
