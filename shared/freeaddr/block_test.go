package freeaddr

import "testing"

// Who would have the same block by its number has another.
func TestBlocksOfTheSameNumber(t *testing.T) {
	seen := make(map[int]bool)
	for range 5 {
		b := claim(blocks - 1)
		if b.held == nil || seen[b.number] || b.number < 0 || b.number >= blocks {
			t.Errorf("block %d is taken twice, or is none", b.number)
			continue
		}
		seen[b.number] = true
		t.Cleanup(func() { b.held.Close() })
	}
}
