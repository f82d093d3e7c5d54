package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"pushcluster/functions/collect/rule"
	"pushcluster/shared/push"
	"pushcluster/shared/secret"
	"pushcluster/shared/signature"
)

const custom = "custom"

// Parse reads a file of at most MaxFile bytes, looks up its secrets and compiles
// its rules. Its error joins a [*Fault] for everything that is wrong, in the
// order of the file, and never tells a secret.
func Parse(ctx context.Context, file []byte, compiler *rule.Compiler, resolve Resolve) (*Set, error) {
	root, err := document(file)
	if err != nil {
		return nil, err
	}
	p := parse{ctx: ctx, compiler: compiler, resolve: resolve, sum: sha256.New()}
	p.sum.Write(file)
	set := &Set{sources: make(map[string]*Source)}
	if root != nil {
		p.file(root, set)
	}
	if len(p.faults) > 0 {
		return nil, errors.Join(p.faults...)
	}
	p.sum.Sum(set.sum[:0])
	return set, nil
}

// ParseSource reads one source: what a file has under its name, in YAML or JSON,
// at most [MaxDefinition] bytes. Its errors are those of [Parse]; their fields
// begin within the source.
func ParseSource(ctx context.Context, name string, text []byte, compiler *rule.Compiler, resolve Resolve) (*Source, error) {
	s, _, err := parseSource(ctx, name, text, compiler, resolve)
	return s, err
}

// parseSource is ParseSource; away tells that nothing is wrong but that secrets
// were not to be had, which may be otherwise the next time.
func parseSource(ctx context.Context, name string, text []byte, compiler *rule.Compiler, resolve Resolve) (s *Source, away bool, err error) {
	root, err := boundedDocument(text)
	if err != nil {
		return nil, false, err
	}
	if err := rule.CheckName(name); err != nil {
		return nil, false, &Fault{Reason: err.Error()}
	}
	if root == nil {
		return nil, false, &Fault{Reason: "there is nothing in it"}
	}
	p := parse{ctx: ctx, compiler: compiler, resolve: resolve, sum: sha256.New()}
	s = p.source(name, root, "")
	if len(p.faults) > 0 {
		return nil, p.away == len(p.faults), errors.Join(p.faults...)
	}
	return s, false, nil
}

// ParseRules reads what stands under rules of a source, in YAML or JSON: one rule
// or a list of them, at most [MaxDefinition] bytes. Its errors are those of [Parse].
func ParseRules(text []byte, compiler *rule.Compiler) ([]*rule.Rule, error) {
	root, err := boundedDocument(text)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, &Fault{Reason: "there is no rule in it"}
	}
	p := parse{compiler: compiler}
	rules := p.ruleList(root, "rules")
	if len(p.faults) > 0 {
		return nil, errors.Join(p.faults...)
	}
	if len(rules) == 0 {
		return nil, &Fault{Reason: "there is no rule in it"}
	}
	return rules, nil
}

// A parse is one call of Parse or ParseSource.
type parse struct {
	reader
	ctx      context.Context
	compiler *rule.Compiler
	resolve  Resolve
	sum      interface {
		Write([]byte) (int, error)
		Sum([]byte) []byte
	}
	away int // how many of the faults are secrets that were not to be had
}

func (p *parse) file(root ast.Node, set *Set) {
	top, ok := p.mapping(root, "", []string{"sources"})
	if !ok || isNull(top.fields["sources"].value) {
		return
	}
	sources, ok := p.mapping(top.fields["sources"].value, "sources", nil)
	if !ok {
		return
	}
	if len(sources.names) > maxSources {
		p.fault(sources.node, "sources", "has %d entries, more than %d", len(sources.names), maxSources)
		return
	}
	for _, name := range sources.names {
		f := sources.fields[name]
		if err := rule.CheckName(name); err != nil {
			p.fault(f.key, sources.in(push.Clip(name, quoted)), "%v", err)
			continue
		}
		set.sources[name] = p.source(name, f.value, sources.in(name))
	}
}

func (p *parse) source(name string, node ast.Node, path string) *Source {
	s := &Source{Name: name}
	m, ok := p.mapping(node, path, []string{"verify", "custom", "secrets", "retired", "retain", "callback", "limit", "addresses", "rules"})
	if !ok {
		return s
	}
	s.Verify = p.scalar(m, "verify")
	scheme, ok := p.scheme(m, s.Verify)
	if secrets, retired := p.secrets(m), p.retired(m); ok && secrets != nil {
		receiver, err := signature.NewReceiver(scheme, secrets, retired...)
		if err != nil {
			p.fault(m.at("secrets"), m.in("secrets"), "%v", err)
		}
		s.Receiver = receiver
	}
	s.Retain = p.retain(m)
	s.Callback = p.callback(m)
	s.Limits, s.Addresses = p.limits(m), p.addresses(m)
	s.Rules = p.rules(m)
	return s
}

// retain reads how long deliveries are kept.
func (p *parse) retain(m mapping) time.Duration {
	text := p.scalar(m, "retain")
	if text == "" {
		return DefaultRetain
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > MaxRetain {
		p.fault(m.at("retain"), m.in("retain"), `must be a duration up to %s, such as "72h", or 0 to keep none`, MaxRetain)
	}
	return d
}

// scheme reads how the source signs.
func (p *parse) scheme(m mapping, verify string) (signature.Scheme, bool) {
	presets := append(signature.Presets(), custom)
	switch {
	case verify == "":
		if _, given := m.fields["verify"]; !given || isNull(m.at("verify")) {
			p.fault(m.node, m.in("verify"), "is missing: nothing is taken unsigned; it is one of %s", strings.Join(presets, ", "))
		}
		return signature.Scheme{}, false
	case verify == custom:
		return p.custom(m)
	}
	if f, given := m.fields[custom]; given {
		p.fault(f.key, m.in(custom), "belongs to verify: custom, not to %s", push.Clip(verify, quoted))
	}
	scheme, ok := signature.Preset(verify)
	if !ok {
		p.fault(m.at("verify"), m.in("verify"), "%q is none of %s", push.Clip(verify, quoted), strings.Join(presets, ", "))
	}
	return scheme, ok
}

// custom reads a scheme that the user describes.
func (p *parse) custom(m mapping) (signature.Scheme, bool) {
	f, given := m.fields[custom]
	if !given {
		p.fault(m.at("verify"), m.in(custom), "is missing: verify: custom needs the description of the signature")
		return signature.Scheme{}, false
	}
	c, ok := p.mapping(f.value, m.in(custom), []string{"header", "prefix", "separator", "timestamp", "algorithm", "encoding", "template", "tolerance", "id"})
	if !ok {
		return signature.Scheme{}, false
	}
	before := len(p.faults)
	scheme := signature.Scheme{
		Header: p.scalar(c, "header"), Prefix: p.scalar(c, "prefix"), Separator: p.scalar(c, "separator"),
		Timestamp: p.scalar(c, "timestamp"), Algorithm: signature.Algorithm(p.scalar(c, "algorithm")),
		Encoding: signature.Encoding(p.scalar(c, "encoding")), Template: p.scalar(c, "template"),
		Tolerance: p.duration(c, "tolerance"), ID: p.scalar(c, "id"),
	}
	if err := scheme.Check(); err != nil {
		for _, one := range unjoin(err) {
			var wrong *signature.SchemeError
			if errors.As(one, &wrong) {
				p.fault(c.at(wrong.Field), c.in(wrong.Field), "%s", wrong.Reason)
			}
		}
	}
	return scheme, len(p.faults) == before
}

// secrets looks up the secrets, nil if one is not to be had.
func (p *parse) secrets(m mapping) []string {
	path := m.in("secrets")
	f, given := m.fields["secrets"]
	if !given {
		p.fault(m.node, path, "is missing: nothing is taken unsigned; write env:NAME, file:PATH or an ARN")
		return nil
	}
	before := len(p.faults)
	secrets, elsewhere := p.lookUp(f.value, path)
	if len(p.faults) > before || elsewhere {
		return nil
	}
	if len(secrets) == 0 {
		p.fault(f.key, path, "is empty: nothing is taken unsigned")
		return nil
	}
	return secrets
}

// retired looks up the secrets that count no more.
func (p *parse) retired(m mapping) []string {
	f, given := m.fields["retired"]
	if !given {
		return nil
	}
	retired, _ := p.lookUp(f.value, m.in("retired"))
	return retired
}

// lookUp reads a list of secrets; those that are not to be had are faults.
// elsewhere is true if one is where nobody looks now.
func (p *parse) lookUp(list ast.Node, path string) (secrets []string, elsewhere bool) {
	for i, node := range p.list(list, path, maxSecrets) {
		at := fmt.Sprintf("%s[%d]", path, i)
		value, ok := text(node)
		if !ok || value == "" {
			p.fault(node, at, "must be one text, not %s", kind(node))
			continue
		}
		found, err := p.resolve(p.ctx, value)
		if errors.Is(err, ErrNotHere) {
			elsewhere = true
			continue
		}
		if err != nil {
			p.fault(node, at, "%v", err)
			if !errors.Is(err, errElsewhere) && !errors.Is(err, secret.ErrUnsupported) {
				p.away++
			}
			continue
		}
		p.sum.Write([]byte("\x00" + found))
		secrets = append(secrets, found)
	}
	return secrets, elsewhere
}

func (p *parse) rules(m mapping) []*rule.Rule {
	path := m.in("rules")
	f, given := m.fields["rules"]
	if !given {
		p.fault(m.node, path, "is missing: without a rule nothing is sent")
		return nil
	}
	rules := p.ruleList(f.value, path)
	if len(rules) == 0 {
		p.fault(f.key, path, "is empty: without a rule nothing is sent")
	}
	return rules
}

// ruleList reads one rule or a list of them.
func (p *parse) ruleList(value ast.Node, path string) (rules []*rule.Rule) {
	names := make(map[string]bool)
	for i, node := range p.list(value, path, maxRules) {
		r, name := p.rule(node, fmt.Sprintf("%s[%d]", path, i), i)
		if names[name] {
			p.fault(node, fmt.Sprintf("%s[%d].name", path, i), "two rules are named %q", push.Clip(name, quoted))
		}
		names[name] = true
		rules = append(rules, r)
	}
	return rules
}

func (p *parse) rule(node ast.Node, path string, place int) (*rule.Rule, string) {
	m, ok := p.mapping(node, path, []string{"name", "when", "to", "event", "data", "ttl", "collapse_key"})
	if !ok {
		return nil, fmt.Sprint(place)
	}
	before := len(p.faults)
	spec := rule.Spec{
		Name: p.scalar(m, "name"), When: p.scalar(m, "when"), Event: p.scalar(m, "event"),
		Data: p.scalar(m, "data"), TTL: p.duration(m, "ttl"), CollapseKey: p.scalar(m, "collapse_key"),
	}
	if spec.Name == "" {
		spec.Name = fmt.Sprint(place)
	}
	fields := map[string]mapping{"": m}
	if f, given := m.fields["to"]; given {
		if to, ok := p.mapping(f.value, m.in("to"), []string{"users", "channels", "all"}); ok {
			spec.To = rule.To{Users: p.scalar(to, "users"), Channels: p.scalar(to, "channels"), All: p.scalar(to, "all")}
			fields["to"] = to
		}
	}
	if len(p.faults) > before {
		return nil, spec.Name
	}
	r, err := p.compiler.Compile(spec)
	for _, one := range unjoin(err) {
		var wrong *rule.Error
		if !errors.As(one, &wrong) {
			continue
		}
		within, name := m, wrong.Field
		if parent, child, nested := strings.Cut(wrong.Field, "."); nested {
			within, name = fields[parent], child
		}
		p.fault(within.at(name), path+"."+wrong.Field, "%s", wrong.Reason)
	}
	return r, spec.Name
}

// unjoin returns the errors that errors.Join has joined.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
