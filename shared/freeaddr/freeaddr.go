// Package freeaddr finds addresses for the programs that tests and harnesses
// start: the program is told where to listen before it listens.
package freeaddr

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// The ports given out lie below those that systems give to outgoing connections
// (from 32768 on Linux, 49152 elsewhere), of which a test makes thousands: one of
// them would now and then take the port before the program does. A process has a
// block of its own, so that tests side by side do not meet: neither before a
// program listens, nor while one is stopped that comes back to its address.
const (
	firstPort  = 12_000
	blockSize  = 100
	blocks     = 180
	firstClaim = firstPort + blocks*blockSize // who listens on block b's has the block
)

// given counts the ports that this process has tried.
var given atomic.Uint32

// own returns the block of this process, which has it until it ends.
var own = sync.OnceValue(func() block { return claim(os.Getpid() % blocks) })

type block struct {
	number int
	held   net.Listener // kept because one that is garbage is closed; nil: somebody else has the block, too
}

// claim takes the first block, from one on, that nobody has; that one where all
// are taken.
func claim(first int) block {
	for i := range blocks {
		b := (first + i) % blocks
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstClaim+b)); err == nil {
			return block{b, l}
		}
	}
	return block{number: first}
}

// Take returns n addresses on 127.0.0.1, at most 100, on which nobody listens at
// the moment, each another one. The next calls return others, until all of the
// block were given out. Its error means that too few are free.
func Take(n int) ([]string, error) {
	addrs := make([]string, 0, n)
	var last error
	for tries := 0; len(addrs) < n && tries < 2*blockSize; tries++ {
		port := firstPort + own().number*blockSize + int(given.Add(1))%blockSize
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		defer l.Close() // all at the end, so that no two are the same
		addrs = append(addrs, l.Addr().String())
	}
	if len(addrs) < n {
		return nil, errors.Join(fmt.Errorf("freeaddr: %d of %d addresses are free", len(addrs), n), last)
	}
	return addrs, nil
}

// One returns one address as [Take] does.
func One() (string, error) {
	addrs, err := Take(1)
	if err != nil {
		return "", err
	}
	return addrs[0], nil
}
