//go:build !race

package rule

const (
	slower = 1 // how much slower the race detector makes things
	stride = 1 // of how many random pairs of rule and body one is evaluated
)
