package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/pushctl/api"
	"pushcluster/pushctl/show"
	"pushcluster/shared/secret"
)

type sourcesCmd struct {
	List  sourcesListCmd  `cmd:"" default:"1" help:"List the sources."`
	Get   sourcesGetCmd   `cmd:"" help:"Tell all of one source, but its secrets."`
	Put   sourcesPutCmd   `cmd:"" help:"Add or replace a source in the store."`
	Rm    sourcesRmCmd    `cmd:"" help:"Remove a source from the store."`
	Check sourcesCheckCmd `cmd:"" help:"Tell everything that is wrong with a file of sources, without a server."`
}

type sourcesListCmd struct{}

// Run lists the sources, those that cannot be used too.
func (*sourcesListCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	answer, err := client.Sources(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, item := range answer.Value.Sources {
		if s.out.JSON {
			if err := s.out.Raw(item.Raw); err != nil {
				return err
			}
		}
		src := item.Value
		var rules []string
		for _, r := range src.Rules {
			rules = append(rules, r.Name)
		}
		if src.Wrong != nil {
			rules = append(rules, "("+src.Wrong.Code+")")
		}
		rows = append(rows, []string{src.Name, src.From, src.Verify, fmt.Sprint(src.Secrets), strings.Join(rules, " ")})
	}
	if s.out.JSON {
		return nil
	}
	return s.out.Table("there is no source", []string{"SOURCE", "FROM", "VERIFY", "SECRETS", "RULES"}, rows)
}

type sourcesGetCmd struct {
	Name string `arg:"" help:"The source's name."`
}

// Run tells all of one source.
func (c *sourcesGetCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	return s.source(client.Source(ctx, c.Name))
}

// source tells all of a source.
func (s *session) source(answer api.Answer[api.Source], err error) error {
	if err != nil {
		return err
	}
	if s.out.JSON {
		return s.out.Raw(answer.Raw)
	}
	src := answer.Value
	facts := [][2]string{
		{"source", src.Name}, {"from", src.From}, {"verify", src.Verify}, {"secrets", fmt.Sprint(src.Secrets)},
		{"retain", src.Retain}, {"addresses", strings.Join(src.Addresses, ", ")},
	}
	for _, l := range src.Limit {
		facts = append(facts, [2]string{"limit", fmt.Sprintf("%s, burst %d", l.Rate, l.Burst)})
	}
	if src.Callback != nil {
		facts = append(facts, [2]string{"callback", src.Callback.URL + " for " + strings.Join(src.Callback.Events, ", ")})
	}
	if !src.UpdatedAt.IsZero() {
		facts = append(facts, [2]string{"updated", show.Time(src.UpdatedAt)})
	}
	if src.Wrong != nil {
		facts = append(facts, [2]string{"wrong", src.Wrong.Code + ": " + src.Wrong.Reason})
	}
	if err := s.out.Facts(facts); err != nil {
		return err
	}
	for _, r := range src.Rules {
		err := errors.Join(s.out.Linef(""), s.out.Facts([][2]string{
			{"rule", r.Name}, {"when", r.When}, {"to.users", r.To["users"]}, {"to.channels", r.To["channels"]}, {"to.all", r.To["all"]},
			{"event", r.Event}, {"data", r.Data}, {"ttl", r.TTL}, {"collapse_key", r.CollapseKey},
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

type sourcesPutCmd struct {
	Name string `arg:"" help:"The source's name."`
	File string `arg:"" help:"Its definition in YAML or JSON (- for stdin): what stands under the name in a file of sources, or a whole such file, of which it takes this one."`
}

// Run adds or replaces a source. Over the API a secret is written as such or as
// an ARN.
func (c *sourcesPutCmd) Run(ctx context.Context, s *session) error {
	text, err := s.readInput(c.File)
	if err != nil {
		return err
	}
	definition, err := definitionOf(text, c.Name)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	answer, err := client.PutSource(ctx, c.Name, definition)
	if err != nil || s.out.JSON {
		return s.source(answer, err)
	}
	return s.out.Linef("%s is in force, with %d rules", answer.Value.Name, len(answer.Value.Rules))
}

// definitionOf returns the definition of one source: text, or what a whole file
// of sources has under name, as JSON. Its secrets stay as they are written.
func definitionOf(text []byte, name string) ([]byte, error) {
	definition, whole, err := source.Definition(text, name)
	if !whole {
		return text, nil // the server says what is wrong with it
	}
	return definition, err
}

type sourcesRmCmd struct {
	Name string `arg:"" help:"The source's name."`
}

// Run removes a source from the store.
func (c *sourcesRmCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	if err := client.RemoveSource(ctx, c.Name); err != nil {
		return err
	}
	if s.out.JSON {
		return s.out.Value(map[string]string{"removed": c.Name})
	}
	return s.out.Linef("%s is removed", c.Name)
}

type sourcesCheckCmd struct {
	File    string `arg:"" help:"A file of sources (- for stdin)."`
	Secrets bool   `help:"Look its secrets up, too: env:, file: and ARNs, as Collect would on this machine."`
}

// Run tells everything that is wrong with a file of sources. It asks no server.
func (c *sourcesCheckCmd) Run(ctx context.Context, s *session) error {
	set, err := s.loadSources(ctx, c.File, c.Secrets)
	if err != nil {
		return err
	}
	names, rules := set.Names(), 0
	for _, name := range names {
		src, _ := set.Source(ctx, name)
		rules += len(src.Rules)
	}
	if s.out.JSON {
		return s.out.Value(map[string]any{"file": c.File, "sources": slices.Clip(append([]string{}, names...)), "rules": rules})
	}
	return s.out.Linef("%s is good: %d sources, %d rules", c.File, len(names), rules)
}

// A faultLine is one thing that is wrong with a file, for scripts.
type faultLine struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason"`
}

// loadSources reads a file of sources and tells what is wrong with it, a line
// for each fault, as compilers do. Without lookUp a secret that is elsewhere is
// left alone, and its source has no receiver.
func (s *session) loadSources(ctx context.Context, path string, lookUp bool) (*source.Set, error) {
	text, err := s.readInput(path)
	if err != nil {
		return nil, err
	}
	compiler, err := rule.NewCompiler()
	if err != nil {
		return nil, err
	}
	secrets := secret.NewResolver(s.getenv)
	defer secrets.Close()
	resolve := secrets.Resolve
	if !lookUp {
		resolve = here
	}
	set, err := source.Parse(ctx, text, compiler, resolve)
	if err == nil {
		return set, nil
	}
	faults := source.Faults(err)
	if len(faults) == 0 {
		return nil, err
	}
	for _, f := range faults {
		if s.out.JSON {
			if err := s.out.Value(faultLine{path, f.Line, f.Column, f.Field, f.Reason}); err != nil {
				return nil, err
			}
			continue
		}
		if err := s.out.Linef("%s", faultText(path, f)); err != nil {
			return nil, err
		}
	}
	return nil, errTold
}

// faultText is FILE:LINE:COLUMN: and what is wrong, which editors understand.
func faultText(path string, f *source.Fault) string {
	where := path
	if f.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", path, f.Line, f.Column)
	}
	bare := *f
	bare.Line, bare.Column = 0, 0
	return where + ": " + bare.Error()
}

// here finds secrets that stand in the file as such, and no others.
func here(_ context.Context, value string) (string, error) {
	for _, scheme := range []string{"env:", "file:", "arn:"} {
		if strings.HasPrefix(value, scheme) {
			return "", source.ErrNotHere
		}
	}
	return value, nil
}

// rulesOf returns the rules in text as the API takes them: a list as it is, those
// of one source, or those that a whole file of sources has under name.
func rulesOf(text []byte, name string) (json.RawMessage, error) {
	definition, err := definitionOf(text, name)
	if err != nil {
		return nil, err
	}
	var one struct {
		Rules any `yaml:"rules"`
	}
	if yaml.Unmarshal(definition, &one) == nil && one.Rules != nil {
		return json.Marshal(one.Rules)
	}
	return json.Marshal(string(definition)) // the server reads it as YAML
}
