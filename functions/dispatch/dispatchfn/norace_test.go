//go:build !race

package dispatchfn_test

// slowdown is by how much the race detector slows this test down.
const slowdown = 1
