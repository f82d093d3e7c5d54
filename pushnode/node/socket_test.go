package node

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A peer has its time for each part that it takes, not for all that waits.
func TestFlush(t *testing.T) {
	const timeout = 10 * time.Second
	tests := map[string]struct {
		takes []int // bytes, every 9 s
		want  error
	}{
		"all at once":     {[]int{1000}, nil},
		"a little often":  {[]int{100, 100, 100, 100, 100, 100, 100, 100, 100, 100}, nil},
		"nothing":         {nil, os.ErrDeadlineExceeded},
		"less than there": {[]int{100, 100, 100}, os.ErrDeadlineExceeded},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				s := newSocket(here) // which the system cannot be asked about: all is left to flush
				if _, err := s.Write(make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
				taken := make(chan struct{})
				go func() {
					defer close(taken)
					for _, n := range tt.takes {
						time.Sleep(9 * time.Second)
						_, _ = io.CopyN(io.Discard, there, int64(n))
					}
				}()
				begin := time.Now()
				if err := s.flush(timeout); !errors.Is(err, tt.want) {
					t.Errorf("flush = %v after %s, want %v", err, time.Since(begin), tt.want)
				}
				here.Close()
				<-taken
			})
		})
	}
}
