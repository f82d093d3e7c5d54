// Package clock is where the programs have the time of their machine from.
//
// It is time.Now, but in programs built with the tag chaos. There the wall
// clock can be moved while the program runs: CHAOS_CLOCK names a file that
// holds a duration, such as -5m, by which it is wrong. As on a machine whose
// clock is set, the monotonic part of the time stays right.
package clock
