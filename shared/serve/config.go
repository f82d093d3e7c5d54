package serve

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/caarlos0/env/v11"

	"pushcluster/shared/secret"
)

// Load reads a C from the environment that getenv looks up. The fields of C
// have the tags of github.com/caarlos0/env: `env:"NAME"` or
// `env:"NAME,required"`, `envDefault`, and besides `help`, the meaning that -h
// prints. A value that is empty counts as not set; one that starts with "env:"
// "file:", or is a Secrets Manager ARN, is looked up there (see
// [secret.Resolver]).
//
// A field tagged `secret:"true"`, or whose type is of package secret, never has
// its value told in an error. If *C has a method Check() error, it is asked about
// the values that could be read; its errors begin with the variable, as in
// "DRAIN_TIME: is negative". The error joins everything that is wrong.
func Load[C any](ctx context.Context, getenv func(string) string) (C, error) {
	cfg, _, err := load[C](ctx, getenv)
	return cfg, err
}

// load is Load that also returns the values it found, by variable.
func load[C any](ctx context.Context, getenv func(string) string) (C, map[string]string, error) {
	var (
		cfg    C
		fields = variablesOf[C]()
		broken = make(map[string]bool)
	)
	values, errs := lookUp(ctx, fields, getenv, broken)
	err := env.ParseWithOptions(&cfg, env.Options{Environment: values})
	var all env.AggregateError
	switch {
	case errors.As(err, &all):
		for _, err := range all.Errors {
			name, told := explain(err, fields)
			if !broken[name] { // said above why it has no value
				errs = append(errs, told)
			}
		}
	case err != nil:
		errs = append(errs, err)
	}
	if c, ok := any(&cfg).(interface{ Check() error }); ok {
		errs = append(errs, news(c.Check(), errs, fields)...)
	}
	return cfg, values, errors.Join(errs...)
}

// lookUp finds the values of fields, all at once: some are far away. It notes
// in broken which could not be found.
func lookUp(ctx context.Context, fields []variable, getenv func(string) string, broken map[string]bool) (map[string]string, []error) {
	var (
		resolver = secret.NewResolver(getenv)
		found    = make([]string, len(fields))
		failed   = make([]error, len(fields))
		wg       sync.WaitGroup
	)
	defer resolver.Close()
	for i, v := range fields {
		if value := getenv(v.name); value != "" {
			wg.Go(func() { found[i], failed[i] = resolver.Resolve(ctx, value) })
		}
	}
	wg.Wait()
	values := make(map[string]string, len(fields))
	var errs []error
	for i, v := range fields {
		switch {
		case failed[i] != nil:
			errs = append(errs, fmt.Errorf("%s: %w", v.name, failed[i]))
			broken[v.name] = true
		case found[i] != "":
			values[v.name] = found[i]
		}
	}
	return values, errs
}

// news returns the parts of err, which Check returned, without those that begin
// with a variable that told already begins with: it has no value to check.
func news(err error, told []error, fields []variable) []error {
	if err == nil {
		return nil
	}
	parts := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		parts = joined.Unwrap()
	}
	about := func(err error, name string) bool {
		subject, _, _ := strings.Cut(err.Error(), ": ")
		return slices.Contains(strings.Fields(subject), name)
	}
	return slices.DeleteFunc(slices.Clone(parts), func(part error) bool {
		return slices.ContainsFunc(fields, func(v variable) bool {
			return about(part, v.name) && slices.ContainsFunc(told, func(err error) bool { return about(err, v.name) })
		})
	})
}

// explain names the variable instead of the field, and leaves secrets out.
func explain(err error, fields []variable) (name string, told error) {
	var (
		parse  env.ParseError
		absent env.VarIsNotSetError
	)
	switch {
	case errors.As(err, &absent):
		return absent.Key, fmt.Errorf("%s: not set, but required", absent.Key)
	case errors.As(err, &parse):
		for _, v := range fields {
			if v.field != parse.Name {
				continue
			}
			if v.secret {
				return v.name, fmt.Errorf("%s: not valid (its value is secret and not shown)", v.name)
			}
			var lines []error // of a list with several parts that are wrong each has one
			for line := range strings.SplitSeq(whatIsWrong(parse.Err, v.kind), "\n") {
				lines = append(lines, fmt.Errorf("%s: %s", v.name, line))
			}
			return v.name, errors.Join(lines...)
		}
	}
	return "", err
}

// whatIsWrong says of a value that is no kind what it is to be, and of others what
// err says.
func whatIsWrong(err error, kind reflect.Type) string {
	switch {
	case kind == reflect.TypeFor[slog.Level]():
		return "is none of DEBUG, INFO, WARN and ERROR"
	case kind == reflect.TypeFor[time.Duration]():
		return "is no duration, such as 500ms, 20s or 1m30s"
	case kind.PkgPath() == "" && kind.Kind() == reflect.Bool:
		return "is neither true nor false"
	case kind.PkgPath() == "" && reflect.Int <= kind.Kind() && kind.Kind() <= reflect.Int64:
		return "is no whole number, or too large a one"
	}
	return err.Error()
}

// Usage writes to w what -h prints: the program, and every environment variable
// of C with its default and meaning.
func Usage[C any](w io.Writer, name, about string) {
	fmt.Fprintf(w, "%s: %s\n\nIt takes no arguments; the environment configures it.\n"+
		"A value may be env:NAME, file:PATH or the ARN of a secret in AWS Secrets\nManager, which is where the value then comes from.\n\n", name, about)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range variablesOf[C]() {
		note := v.fallback
		if v.required {
			note = "(required)"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\n", v.name, note, v.help)
	}
	tw.Flush()
}

// A variable is one environment variable of a configuration.
type variable struct {
	name, field    string
	fallback, help string
	required       bool
	secret         bool
	kind           reflect.Type
}

// variablesOf lists the environment variables of C.
func variablesOf[C any]() []variable { return variables(reflect.TypeFor[C]()) }

// variables lists the environment variables of t, embedded structs included, in
// the order of the fields.
func variables(t reflect.Type) []variable {
	var list []variable
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("env")
		if !ok {
			if f.Type.Kind() == reflect.Struct && !reflect.PointerTo(f.Type).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
				list = append(list, variables(f.Type)...)
			}
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		list = append(list, variable{
			name: name, field: f.Name,
			fallback: f.Tag.Get("envDefault"), help: f.Tag.Get("help"),
			required: strings.Contains(options, "required") || strings.Contains(options, "notEmpty"),
			secret:   f.Tag.Get("secret") == "true",
			kind:     f.Type,
		})
	}
	return list
}
