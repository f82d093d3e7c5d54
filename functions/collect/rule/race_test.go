//go:build race

package rule

const (
	slower = 10 // how much slower the race detector makes things
	stride = 40 // of how many random pairs of rule and body one is evaluated
)
