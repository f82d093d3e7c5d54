package collectfn

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"pushcluster/functions/collect/limit"
	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
)

// StoredSources knows the sources of the store beside those of the file.
// source.Live is one.
type StoredSources interface {
	// Check reads a definition; its errors are source.Faults.
	Check(ctx context.Context, name string, definition []byte) (*source.Source, error)
	// InFile reports whether the file has a source of that name, which wins.
	InFile(ctx context.Context, name string) bool
	// CheckRules reads rules that are to be tried; its errors are source.Faults.
	CheckRules(text []byte) ([]*rule.Rule, error)
	// Forget has what was read of the store be read again.
	Forget()
}

// A sourceAnswer describes a source. Its secrets are never told.
type sourceAnswer struct {
	Name      string          `json:"name"`
	From      string          `json:"from"` // "file" or "api"
	Verify    string          `json:"verify"`
	Secrets   int             `json:"secrets"` // how many
	Retain    string          `json:"retain"`  // how long deliveries are kept; "0s": not at all
	Callback  *callbackAnswer `json:"callback,omitempty"`
	Limit     []rateAnswer    `json:"limit,omitempty"`
	Addresses []string        `json:"addresses,omitempty"`
	Rules     []ruleAnswer    `json:"rules"`
	UpdatedAt time.Time       `json:"updated_at,omitzero"` // of one from the api
	Wrong     *wrongAnswer    `json:"wrong,omitempty"`
}

// A wrongAnswer is why what was put last under a source's name does not count.
// Without anything that counts in its place, the source has neither verify nor
// rules.
type wrongAnswer struct {
	Code   push.Code `json:"code"` // unavailable: it may heal by itself; source_unusable: it has to be put again
	Reason string    `json:"reason"`
}

func newWrongAnswer(wrong *source.Unusable) *wrongAnswer {
	if wrong == nil {
		return nil
	}
	return &wrongAnswer{noSource(wrong).Code, faultsText(wrong.Err)}
}

// listTime bounds how long one list of sources makes those ready that nobody
// has asked for yet. The others are listed as unavailable, until they are asked
// for again.
const listTime = 5 * time.Second

// A callbackAnswer is where a source is told what became of its messages.
type callbackAnswer struct {
	URL    string   `json:"url"`
	Events []string `json:"events"`
}

// A rateAnswer is one limit of a source, as it is written.
type rateAnswer struct {
	Rate  string `json:"rate"`
	Burst int    `json:"burst"`
}

type ruleAnswer struct {
	Name        string            `json:"name"`
	When        string            `json:"when,omitempty"`
	To          map[string]string `json:"to"`
	Event       string            `json:"event,omitempty"`
	Data        string            `json:"data,omitempty"`
	TTL         string            `json:"ttl,omitempty"`
	CollapseKey string            `json:"collapse_key,omitempty"`
}

// listSources answers all sources, those that cannot be used too.
func (h *Handler) listSources(w http.ResponseWriter, r *http.Request) {
	if _, ok := h.holder(w, r); !ok {
		return
	}
	set := h.sourceSet(r.Context())
	if !set.Whole() {
		h.refuse(w, r, noSource(source.ErrUnread))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), listTime)
	defer cancel()
	answers := []sourceAnswer{}
	for _, name := range set.Names() {
		src, err := set.Source(ctx, name)
		if a, ok := h.describeAny(r.Context(), src, err); ok {
			answers = append(answers, a)
		}
	}
	h.metrics.orders.WithLabelValues("sources").Inc()
	serve.JSON(w, http.StatusOK, struct {
		Sources []sourceAnswer `json:"sources"`
	}{answers})
}

// getSource answers one source.
func (h *Handler) getSource(w http.ResponseWriter, r *http.Request) {
	if _, ok := h.holder(w, r); !ok {
		return
	}
	src, err := h.sourceSet(r.Context()).Source(r.Context(), r.PathValue("source"))
	a, ok := h.describeAny(r.Context(), src, err)
	if !ok {
		h.refuse(w, r, noSource(err))
		return
	}
	h.metrics.orders.WithLabelValues("sources").Inc()
	serve.JSON(w, http.StatusOK, a)
}

// putSource keeps a source in the store, in place of the one of its name.
func (h *Handler) putSource(w http.ResponseWriter, r *http.Request) {
	name, ok := h.changeable(w, r)
	if !ok {
		return
	}
	definition, p := serve.Body(w, r, source.MaxDefinition)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	src, err := h.cfg.Stored.Check(r.Context(), name, definition)
	if err != nil {
		h.refuse(w, r, push.NewProblem(push.CodeInvalidValue, "%s", faultsText(err)))
		return
	}
	now := h.now()
	err = h.store.PutSource(r.Context(), store.SourceRecord{Name: name, Definition: definition, UpdatedAt: now}, source.MaxStored)
	if errors.Is(err, store.ErrFull) {
		h.refuse(w, r, push.NewProblem(push.CodeTooManyRequests, "the store holds %d sources already", source.MaxStored))
		return
	}
	if !h.answered(w, r, err) {
		return
	}
	h.cfg.Stored.Forget()
	h.metrics.orders.WithLabelValues("put_source").Inc()
	answer := h.describe(r.Context(), src)
	answer.From, answer.UpdatedAt = "api", now
	serve.JSON(w, http.StatusOK, answer)
}

// deleteSource removes a source from the store.
func (h *Handler) deleteSource(w http.ResponseWriter, r *http.Request) {
	name, ok := h.changeable(w, r)
	if !ok {
		return
	}
	removed, err := h.store.RemoveSource(r.Context(), name)
	if !h.answered(w, r, err) {
		return
	}
	h.cfg.Stored.Forget()
	if !removed {
		h.refuse(w, r, push.NewProblem(push.CodeNotFound, "there is no source of this name"))
		return
	}
	h.metrics.orders.WithLabelValues("delete_source").Inc()
	w.WriteHeader(http.StatusNoContent)
}

// changeable returns the name of the source that r is to change; ok is false if
// it may not, and r is answered.
func (h *Handler) changeable(w http.ResponseWriter, r *http.Request) (name string, ok bool) {
	if _, ok := h.holder(w, r); !ok {
		return "", false
	}
	name = r.PathValue("source")
	switch {
	case h.cfg.Stored == nil:
		h.refuse(w, r, push.NewProblem(push.CodeUnavailable, "sources cannot be changed here"))
		return "", false
	case h.cfg.Keys.Has(name):
		h.refuse(w, r, push.NewProblem(push.CodeConflict, "an API key has this name, and both begin message ids: choose another"))
		return "", false
	case h.cfg.Stored.InFile(r.Context(), name):
		h.refuse(w, r, push.NewProblem(push.CodeConflict, "the source %q is in the file of sources, and read-only here", name))
		return "", false
	}
	return name, true
}

func (h *Handler) sourceSet(ctx context.Context) *source.Set {
	if h.cfg.Sources == nil {
		return nil
	}
	return h.cfg.Sources.Set(ctx)
}

// describeAny describes a source, or what err says of it; ok is false where that
// is not known to be there.
func (h *Handler) describeAny(ctx context.Context, src *source.Source, err error) (a sourceAnswer, ok bool) {
	var wrong *source.Unusable
	switch {
	case err == nil:
		return h.describe(ctx, src), true
	case errors.As(err, &wrong):
		return sourceAnswer{Name: wrong.Name, From: "api", Rules: []ruleAnswer{}, UpdatedAt: wrong.UpdatedAt, Wrong: newWrongAnswer(wrong)}, true
	}
	return sourceAnswer{}, false
}

func (h *Handler) describe(ctx context.Context, src *source.Source) sourceAnswer {
	a := sourceAnswer{Name: src.Name, From: "api", Verify: src.Verify, Secrets: src.Receiver.Secrets(), Retain: src.Retain.String(), Rules: []ruleAnswer{}, UpdatedAt: src.UpdatedAt, Wrong: newWrongAnswer(src.Wrong)}
	if h.cfg.Stored == nil || h.cfg.Stored.InFile(ctx, src.Name) {
		a.From = "file"
	}
	if c := src.Callback; c != nil {
		a.Callback = &callbackAnswer{c.URL, c.Events}
	}
	for _, r := range src.Limits {
		a.Limit = append(a.Limit, rateAnswer{limit.Text(r), r.Burst})
	}
	for _, network := range src.Addresses {
		a.Addresses = append(a.Addresses, network.String())
	}
	for _, r := range src.Rules {
		spec := r.Spec()
		one := ruleAnswer{Name: spec.Name, When: spec.When, To: make(map[string]string),
			Event: spec.Event, Data: spec.Data, CollapseKey: spec.CollapseKey}
		for field, text := range map[string]string{"users": spec.To.Users, "channels": spec.To.Channels, "all": spec.To.All} {
			if text != "" {
				one.To[field] = text
			}
		}
		if spec.TTL > 0 {
			one.TTL = spec.TTL.String()
		}
		a.Rules = append(a.Rules, one)
	}
	return a
}

// faultsText is what is wrong with a definition, on one line.
func faultsText(err error) string {
	var texts []string
	for _, f := range source.Faults(err) {
		texts = append(texts, f.Error())
		if len(texts) == 20 {
			texts = append(texts, "…")
			break
		}
	}
	return strings.Join(texts, "; ")
}
