package limit

import (
	"fmt"
	"math"
	"strings"
	"time"

	"pushcluster/shared/registry"
)

// RetryAfter returns how many whole seconds a refused request should wait, at
// least one.
func RetryAfter(v registry.Verdict) int {
	var wait time.Duration
	for _, left := range v.Left {
		wait = max(wait, left.Next)
	}
	return max(1, seconds(wait))
}

// seconds returns d in whole seconds, rounded up.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// Headers returns the headers RateLimit-Policy and RateLimit of the IETF draft
// (draft-ietf-httpapi-ratelimit-headers): each limit under its own text, with
// how many requests may come at once (q) in how many seconds (w), how many are
// left (r), and in how many seconds all are (t).
func Headers(rates []registry.Rate, v registry.Verdict) (policy, left string) {
	var policies, lefts []string
	for i, r := range rates {
		name := Text(r)
		policies = append(policies, fmt.Sprintf(`"%s";q=%d;w=%d`, name, r.Burst, seconds(r.Room())))
		if i < len(v.Left) {
			lefts = append(lefts, fmt.Sprintf(`"%s";r=%d;t=%d`, name, v.Left[i].Requests, seconds(v.Left[i].Full)))
		}
	}
	return strings.Join(policies, ", "), strings.Join(lefts, ", ")
}
