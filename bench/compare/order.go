//go:build linux

package compare

import (
	"slices"
	"strconv"
	"strings"
)

// sortedRows returns ids of rows once each, by their number of connections.
func sortedRows(ids []string) []string {
	slices.SortFunc(ids, func(a, b string) int { return countOf(a) - countOf(b) })
	return slices.Compact(ids)
}

// countOf returns the number of connections in the id of a row, 0 if it has none.
func countOf(id string) int {
	_, text, _ := strings.Cut(id, "@")
	n, _ := strconv.Atoi(text) // of our own making; 0 where there is none
	return n
}
