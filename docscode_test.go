package pushcluster_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// What the code says, for the tests of the documentation: read, not run, so that
// nothing has to be built or started for it.

func parseFile(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// pairsOf returns the first two values of every literal of a type in file, the
// second by the first.
func pairsOf(t *testing.T, file, typeName string) map[string]string {
	t.Helper()
	pairs := make(map[string]string)
	ast.Inspect(parseFile(t, file), func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok || len(lit.Elts) < 2 {
			return true
		}
		if name, ok := lit.Type.(*ast.Ident); ok && name.Name == typeName {
			pairs[textOf(lit.Elts[0], nil)] = textOf(lit.Elts[1], nil)
		}
		return true
	})
	return pairs
}

// variablesIn returns the environment variables of the Config in a main.go with
// their defaults; "required" and "optional" stand for those of others.
func variablesIn(t *testing.T, file string) map[string]string {
	t.Helper()
	variables := make(map[string]string)
	ast.Inspect(parseFile(t, file), func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Config" {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			if field.Tag == nil {
				t.Fatalf("%s: a field of Config has no tag; teach this test to read it", file)
			}
			tag := reflect.StructTag(textOf(field.Tag, nil))
			name, options, _ := strings.Cut(tag.Get("env"), ",")
			fallback, ok := tag.Lookup("envDefault")
			switch {
			case options != "":
				fallback = "required"
			case !ok:
				fallback = "optional"
			}
			variables[name] = fallback
		}
		return false
	})
	if len(variables) == 0 {
		t.Fatalf("%s has no Config", file)
	}
	return variables
}

// metricsIn returns the labels of every metric that a file makes, by its name.
// A metric may be made by a local function that is given its name.
func metricsIn(t *testing.T, file string) map[string]string {
	t.Helper()
	metrics := make(map[string]string)
	note := func(call *ast.CallExpr, bound map[string]ast.Expr) {
		name, labels, ok := metricOf(call, bound)
		switch {
		case !ok:
		case strings.Contains(name, "?") || strings.Contains(labels, "?"):
			t.Errorf("%s: the name or the labels of metric %s (%s) cannot be read; write them as text, or teach this test", file, name, labels)
		default:
			metrics[name] = labels
		}
	}
	for _, decl := range parseFile(t, file).Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "Counters" {
			continue // telemetry's own, whose callers are read
		}
		makers := make(map[string]*ast.FuncLit)
		ast.Inspect(decl, func(n ast.Node) bool {
			if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 {
				if f, ok := a.Rhs[0].(*ast.FuncLit); ok {
					makers[a.Lhs[0].(*ast.Ident).Name] = f
					return false
				}
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			note(call, nil)
			if name, ok := call.Fun.(*ast.Ident); ok && makers[name.Name] != nil {
				bound := bind(makers[name.Name], call.Args)
				ast.Inspect(makers[name.Name].Body, func(n ast.Node) bool {
					if inner, ok := n.(*ast.CallExpr); ok {
						note(inner, bound)
					}
					return true
				})
			}
			return true
		})
	}
	return metrics
}

// bind returns the arguments of a call of f by the names of its parameters.
func bind(f *ast.FuncLit, args []ast.Expr) map[string]ast.Expr {
	bound := make(map[string]ast.Expr)
	i := 0
	for _, field := range f.Type.Params.List {
		for _, name := range field.Names {
			if i < len(args) {
				bound[name.Name] = args[i]
			}
			i++
		}
	}
	return bound
}

// metricOf returns name and labels of the metric that a call makes: telemetry.Counters,
// or one whose first argument is prometheus.…Opts with a name. What it cannot read
// is "?".
func metricOf(call *ast.CallExpr, bound map[string]ast.Expr) (name, labels string, ok bool) {
	if len(call.Args) == 0 {
		return "", "", false
	}
	if f, isSel := call.Fun.(*ast.SelectorExpr); isSel && fmt.Sprint(f.X) == "telemetry" && f.Sel.Name == "Counters" {
		return textOf(call.Args[1], bound), textOf(call.Args[3], bound), true
	}
	opts, isLit := call.Args[0].(*ast.CompositeLit)
	if !isLit {
		return "", "", false
	}
	kind, isSel := opts.Type.(*ast.SelectorExpr)
	if !isSel || fmt.Sprint(kind.X) != "prometheus" || !strings.HasSuffix(kind.Sel.Name, "Opts") {
		return "", "", false
	}
	for _, elt := range opts.Elts {
		field, isField := elt.(*ast.KeyValueExpr)
		if !isField {
			continue
		}
		switch fmt.Sprint(field.Key) {
		case "Name":
			name = textOf(field.Value, bound)
		case "ConstLabels":
			labels = constLabels(field.Value)
		}
	}
	if len(call.Args) > 1 {
		if list, isLit := call.Args[1].(*ast.CompositeLit); isLit {
			for _, elt := range list.Elts {
				labels += "," + textOf(elt, bound)
			}
		}
	}
	return name, strings.Trim(labels, ","), true
}

// constLabels returns the labels that every sample of a metric has alike, as far
// as they are written in place.
func constLabels(e ast.Expr) string {
	lit, ok := e.(*ast.CompositeLit)
	if !ok {
		return "port" // serve's, which it shares between its metrics
	}
	var names []string
	for _, elt := range lit.Elts {
		names = append(names, textOf(elt.(*ast.KeyValueExpr).Key, nil))
	}
	return strings.Join(names, ",")
}

// textOf returns what a constant expression says, "?" where it is none.
func textOf(e ast.Expr, bound map[string]ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return text
		}
		return e.Value
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return textOf(e.X, bound) + textOf(e.Y, bound)
		}
	case *ast.Ident:
		if arg, ok := bound[e.Name]; ok {
			return textOf(arg, nil)
		}
	}
	return "?"
}
