package collectfn

import (
	"context"
	"net/http"
	"strconv"

	"pushcluster/functions/collect/address"
	"pushcluster/functions/collect/limit"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
)

// Whom a limit is of: labels of metrics, and the first part of its subject.
const (
	limitOfSource = "source"
	limitOfKey    = "key"
)

// What became of a request that has a limit.
const (
	limitPassed   = "passed"
	limitRefused  = "refused"
	limitUnjudged = "unjudged" // Redis is away, and it passes
)

// admit reports whether a webhook of src may come in, from where it comes and as
// often as it comes; if not, r is answered. Nothing of its body is read before.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, src *source.Source) bool {
	h.metrics.received(src.Name)
	if !h.allowed(r, src) {
		h.turnAway(w, r, src, push.NewProblem(push.CodeAddressForbidden, "this source does not take webhooks from your address"), nil, false)
		return false
	}
	if p := h.within(w, r, limitOfSource, src.Name, src.Limits); p != nil {
		h.refuseWebhook(w, r, src, p)
		return false
	}
	return true
}

// allowed reports whether r comes from where src may post from.
func (h *Handler) allowed(r *http.Request, src *source.Source) bool {
	return src.Addresses == nil || src.Addresses.Has(address.Of(r, h.cfg.Proxies))
}

// within counts r against the limits of a source or an API key, and tells its
// sender what is left in headers. The problem says that it is one too many, and
// when to try again. What cannot be judged may pass.
func (h *Handler) within(w http.ResponseWriter, r *http.Request, of, name string, rates []registry.Rate) *push.Problem {
	if len(rates) == 0 {
		return nil
	}
	v, err := h.cfg.Limits.Take(r.Context(), of+":"+name, rates)
	if r.Context().Err() == nil {
		h.limits.Note(h.log, err)
	}
	if err != nil {
		h.metrics.limits.WithLabelValues(of, limitUnjudged).Inc()
		return nil
	}
	policy, left := limit.Headers(rates, v)
	w.Header().Set("RateLimit-Policy", policy)
	w.Header().Set("RateLimit", left)
	if v.Passes {
		h.metrics.limits.WithLabelValues(of, limitPassed).Inc()
		return nil
	}
	h.metrics.limits.WithLabelValues(of, limitRefused).Inc()
	w.Header().Set("Retry-After", strconv.Itoa(limit.RetryAfter(v)))
	return push.NewProblem(push.CodeTooManyRequests, "more requests than the %s %q may send; RateLimit-Policy says how many", of, name)
}

// perMinute returns how many requests of a source pass within a minute at most,
// in the long run; 0: any number.
func perMinute(src *source.Source) int {
	least := 0
	for _, r := range src.Limits {
		if n := max(1, int(60*float64(r.Count)/r.Per.Seconds())); least == 0 || n < least {
			least = n
		}
	}
	return least
}

// Limits judges requests; limit.Shared and limit.Local do.
type Limits interface {
	// Take counts one request of subject against rates: against all of them, or,
	// where one refuses it, against none. An error means that it was not judged.
	Take(ctx context.Context, subject string, rates []registry.Rate) (registry.Verdict, error)
}
