package dispatchfn

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestRunning: wait returns when all that runs has ended, also what began while
// it waited, and may be called again.
func TestRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r running
		r.wait()
		for range 2 {
			began := time.Now()
			r.run(func() {
				time.Sleep(time.Second)
				r.run(func() { time.Sleep(time.Second) })
			})
			waited := make(chan struct{})
			go func() { // two may wait
				r.wait()
				close(waited)
			}()
			r.wait()
			<-waited
			if took := time.Since(began); took != 2*time.Second {
				t.Errorf("wait returned after %v, want 2s", took)
			}
		}
	})
}
