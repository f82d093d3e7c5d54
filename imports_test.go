// Package pushcluster_test holds what is true of the whole tree: who may import
// whom.
package pushcluster_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rules, in tables. main → component → shared/x → shared/push → standard
// library; docs/architecture.md says why.

const module = "pushcluster"

// components are what runs. They never import each other, and only harnesses
// import them.
var components = []string{"functions/auth", "functions/collect", "functions/dispatch", "pushnode", "pushctl"}

// borrowed lists what a component imports of another all the same. pushctl checks
// files of sources and tries rules where there is no server: with a copy of that
// code it would tell what some other Collect does. See decision 0018.
var borrowed = map[string][]string{
	"pushctl": {"functions/collect/rule", "functions/collect/source"},
}

// harnesses put components together, to run or to measure them. Nobody else
// imports them.
var harnesses = []string{"localstack", "bench"}

// sharedEdges lists what each shared package imports of the others, besides
// shared/push, which all may. It must stay without cycles.
var sharedEdges = map[string][]string{
	"shared/registry":          {"shared/freeaddr"}, // its tests alone
	"shared/secret":            {"shared/awsenv"},
	"shared/serve":             {"shared/secret"},
	"shared/signature":         {"shared/serve"},
	"shared/handoff":           {"shared/awsenv", "shared/batcher", "shared/serve", "shared/signature"},
	"shared/nodeclient":        {"shared/signature", "shared/telemetry"},
	"shared/store/mongostore":  {"shared/batcher", "shared/store"},
	"shared/store/sqlitestore": {"shared/store"},
	"shared/token":             {"shared/telemetry"},
	"shared/store/storeurl":    {"shared/store", "shared/store/mongostore", "shared/store/sqlitestore"},
}

// homes lists the only packages, with those below them, that import a driver.
var homes = map[string][]string{
	"github.com/redis/go-redis":         {"shared/registry"},
	"go.mongodb.org/mongo-driver":       {"shared/store/mongostore"},
	"modernc.org/sqlite":                {"shared/store/sqlitestore"},
	"github.com/golang-jwt/jwt":         {"shared/token"},
	"github.com/MicahParks":             {"shared/token"},
	"github.com/aws/aws-lambda-go":      {"shared/serve"},
	"github.com/aws/aws-sdk-go-v2":      {"shared/awsenv", "shared/handoff", "shared/secret"},
	"github.com/gorilla/websocket":      {"pushnode", "shared/nodeclient", "bench"},
	"github.com/alicebob/miniredis":     {"shared/registry/registrytest", "localstack"},
	"github.com/centrifugal/protocol":   {"shared/push", "pushnode", "localstack", "bench"},
	"github.com/centrifugal/centrifuge": {"localstack", "bench", "pushctl"}, // centrifuge-go too: the clients
}

// without lists what single packages promise to do without.
var without = map[string][]string{
	"pushnode/hub": {"net", "github.com/gorilla/websocket"}, // local connections, no network
}

// A source is one Go file: its path from the root and what it imports.
type source struct {
	file    string
	imports []string
}

func TestImports(t *testing.T) {
	sources, err := readTree(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < 20 {
		t.Fatalf("only %d Go files found: this test looks in the wrong place", len(sources))
	}
	for _, fault := range check(sources) {
		t.Error(fault)
	}
	if cycle := findCycle(sharedEdges); cycle != nil {
		t.Errorf("sharedEdges goes in a circle, %s: take one of these edges away", strings.Join(cycle, " → "))
	}
}

// check returns a sentence for every import that the rules do not allow.
func check(sources []source) []string {
	var faults []string
	for _, s := range sources {
		from := path.Dir(s.file)
		for _, imported := range s.imports {
			why := ""
			if to, ok := strings.CutPrefix(imported, module+"/"); ok {
				why = checkOwn(from, to, isTest(s.file))
			} else {
				why = checkForeign(from, imported, isTest(s.file))
			}
			if why != "" {
				faults = append(faults, fmt.Sprintf("%s imports %s: %s", s.file, imported, why))
			}
		}
		if from != "." && areaOf(from) == "" {
			faults = append(faults, fmt.Sprintf("%s is in a folder that the layout does not know: move it, or add its folder to imports_test.go and to docs/architecture.md", s.file))
		}
	}
	return faults
}

// checkOwn says why a file in folder from may not import the project's folder
// to, or nothing.
func checkOwn(from, to string, test bool) string {
	fromArea, toArea := areaOf(from), areaOf(to)
	fromHarness := slices.Contains(harnesses, fromArea) || from == "."
	switch {
	case slices.Contains(harnesses, toArea) && !fromHarness:
		return "only localstack, bench and what tests the whole import those; give it what it needs as a parameter"
	case slices.Contains(components, toArea) && !fromHarness && fromArea == "shared":
		return "shared packages know no component; move what both need under shared, or declare an interface here"
	case slices.Contains(borrowed[fromArea], to):
		return ""
	case slices.Contains(components, toArea) && !fromHarness && fromArea != toArea:
		return "components never import each other; talk over the network, move what both need under shared, or put the joint test under localstack"
	case isTestPackage(to) && !test && !fromHarness:
		return "that package is for tests alone"
	case from == "shared/push" && !test:
		return "shared/push is the leaf that all others stand on; what needs more does not belong there"
	case fromArea == "shared" && toArea == "shared" && !test && from != to && to != "shared/push" && !slices.Contains(sharedEdges[from], to):
		return "this edge is not in sharedEdges of imports_test.go; do without it, or add it there if no circle comes of it"
	}
	return ""
}

// checkForeign says why a file in folder from may not import the package of
// somebody else, or nothing.
func checkForeign(from, imported string, test bool) string {
	if test {
		return ""
	}
	for _, banned := range without[from] {
		if within(imported, banned) {
			return from + " promises to do without it; hand it in as a value or an interface"
		}
	}
	if from == "shared/push" && strings.Contains(strings.Split(imported, "/")[0], ".") && !within(imported, "github.com/centrifugal/protocol") {
		return "shared/push needs the standard library alone, and centrifugal/protocol"
	}
	for driver, allowed := range homes {
		// Versions and sibling modules (…/v2, …-go) count as the driver too.
		if !strings.HasPrefix(imported, driver) {
			continue
		}
		if !slices.ContainsFunc(allowed, func(home string) bool { return within(from, home) }) {
			return fmt.Sprintf("one driver, one home: only %s may; ask that package instead", strings.Join(allowed, ", "))
		}
	}
	return ""
}

// areaOf returns the component, harness or "shared" that folder dir belongs to,
// or nothing.
func areaOf(dir string) string {
	for _, area := range slices.Concat(components, harnesses, []string{"shared"}) {
		if within(dir, area) {
			return area
		}
	}
	return ""
}

// within reports whether p is the path parent or below it.
func within(p, parent string) bool { return p == parent || strings.HasPrefix(p, parent+"/") }

// isTest reports whether file is a test or part of a package for tests.
func isTest(file string) bool {
	return strings.HasSuffix(file, "_test.go") || isTestPackage(path.Dir(file))
}

// isTestPackage reports whether dir holds a package for tests: storetest and
// its like.
func isTestPackage(dir string) bool { return strings.HasSuffix(path.Base(dir), "test") }

// findCycle returns the folders of a circle in edges, nil if there is none.
func findCycle(edges map[string][]string) []string {
	done := make(map[string]bool)
	var visit func(dir string, trail []string) []string
	visit = func(dir string, trail []string) []string {
		if at := slices.Index(trail, dir); at >= 0 {
			return append(slices.Clone(trail[at:]), dir)
		}
		if done[dir] {
			return nil
		}
		for _, next := range edges[dir] {
			if cycle := visit(next, append(trail, dir)); cycle != nil {
				return cycle
			}
		}
		done[dir] = true
		return nil
	}
	for dir := range edges {
		if cycle := visit(dir, nil); cycle != nil {
			return cycle
		}
	}
	return nil
}

// readTree reads the imports of every Go file of this module below root,
// whatever its build tags.
func readTree(root string) ([]source, error) {
	var sources []source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return skipFolder(root, name, entry)
		case filepath.Ext(name) != ".go":
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		s := source{file: filepath.ToSlash(name)}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			s.imports = append(s.imports, imported)
		}
		sources = append(sources, s)
		return nil
	})
	return sources, err
}

// skipFolder returns fs.SkipDir for folders whose Go files are not the
// module's: another module's, and those that the go command passes over.
func skipFolder(root, name string, entry fs.DirEntry) error {
	if name == root {
		return nil
	}
	switch base := entry.Name(); {
	case strings.HasPrefix(base, "."), strings.HasPrefix(base, "_"), base == "testdata", base == "node_modules":
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

// TestCheck shows that the checker can fail, and when it does not.
func TestCheck(t *testing.T) {
	own := func(dir string) string { return module + "/" + dir }
	tests := map[string]struct {
		file, imports string
		want          string // part of the fault; empty: allowed
	}{
		"main to its logic":            {"functions/auth/main.go", own("functions/auth/authfn"), ""},
		"inside a component":           {"pushnode/node/node.go", own("pushnode/hub"), ""},
		"component to shared":          {"pushnode/main.go", own("shared/registry"), ""},
		"component to component":       {"pushnode/main.go", own("functions/auth/authfn"), "components never import each other"},
		"function to function":         {"functions/auth/authfn/a.go", own("functions/collect/collectfn"), "components never import each other"},
		"component's test to another":  {"pushnode/verify/verify_test.go", own("functions/auth/authfn"), "components never import each other"},
		"command to component":         {"pushctl/main.go", own("functions/collect/collectfn"), "components never import each other"},
		"command to rules":             {"pushctl/cli/a.go", own("functions/collect/rule"), ""},
		"rules to command":             {"functions/collect/rule/a.go", own("pushctl/cli"), "components never import each other"},
		"another to rules":             {"functions/dispatch/main.go", own("functions/collect/rule"), "components never import each other"},
		"shared to component":          {"shared/token/a.go", own("pushnode/hub"), "shared packages know no component"},
		"shared test to component":     {"shared/token/a_test.go", own("pushnode/hub"), "shared packages know no component"},
		"component to harness":         {"functions/auth/main.go", own("localstack/stack"), "only localstack, bench"},
		"component's test to harness":  {"functions/auth/main_test.go", own("localstack/stack"), "only localstack, bench"},
		"shared to harness":            {"shared/serve/a.go", own("bench"), "only localstack, bench"},
		"harness to component":         {"localstack/stack/stack.go", own("pushnode/node"), ""},
		"harness to harness":           {"bench/load.go", own("localstack/stack"), ""},
		"root test to anything":        {"all_test.go", own("localstack/stack"), ""},
		"listed edge":                  {"shared/signature/a.go", own("shared/serve"), ""},
		"edge backwards":               {"shared/serve/a.go", own("shared/signature"), "not in sharedEdges"},
		"edge not listed":              {"shared/token/a.go", own("shared/secret"), "not in sharedEdges"},
		"edge into a package below":    {"shared/store/store.go", own("shared/store/sqlitestore"), "not in sharedEdges"},
		"edge of a test":               {"shared/handoff/a_test.go", own("shared/serve"), ""},
		"edge of a test package":       {"shared/store/storetest/suite.go", own("shared/store"), ""},
		"test package in a test":       {"pushnode/node/node_test.go", own("shared/registry/registrytest"), ""},
		"test package in the stack":    {"localstack/stack/redis.go", own("shared/registry/registrytest"), ""},
		"test package in earnest":      {"pushnode/main.go", own("shared/registry/registrytest"), "for tests alone"},
		"everyone to the words":        {"shared/telemetry/a.go", own("shared/push"), ""},
		"the words to anyone":          {"shared/push/a.go", own("shared/store"), "the leaf"},
		"the words to the library":     {"shared/push/a.go", "encoding/json", ""},
		"the words to the protocol":    {"shared/push/a.go", "github.com/centrifugal/protocol", ""},
		"the words to another library": {"shared/push/a.go", "github.com/google/uuid", "the standard library alone"},
		"driver at home":               {"shared/registry/a.go", "github.com/redis/go-redis/v9", ""},
		"driver below its home":        {"pushnode/node/a.go", "github.com/gorilla/websocket", ""},
		"driver elsewhere":             {"functions/dispatch/dispatchfn/a.go", "github.com/redis/go-redis/v9/internal", "only shared/registry may"},
		"driver in the stack":          {"localstack/stack/a.go", "go.mongodb.org/mongo-driver/v2/mongo", "only shared/store/mongostore may"},
		"driver in a test":             {"functions/dispatch/dispatchfn/a_test.go", "github.com/redis/go-redis/v9", ""},
		"Lambda in the logic":          {"functions/auth/authfn/a.go", "github.com/aws/aws-lambda-go/lambda", "only shared/serve may"},
		"JWT in the node":              {"pushnode/verify/a.go", "github.com/golang-jwt/jwt/v5", "only shared/token may"},
		"network in the hub":           {"pushnode/hub/a.go", "net/http", "do without"},
		"junk drawer":                  {"util/a.go", "fmt", "the layout does not know"},
		"new component":                {"functions/extra/main.go", "fmt", "the layout does not know"},
		"name that only begins alike":  {"pushnodes/a.go", "fmt", "the layout does not know"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			faults := check([]source{{tt.file, []string{tt.imports}}})
			got := strings.Join(faults, "\n")
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%s importing %s: faults %q, want %q", tt.file, tt.imports, got, tt.want)
			}
		})
	}
}

func TestFindCycle(t *testing.T) {
	tests := map[string]struct {
		edges map[string][]string
		want  int // folders in the circle, its start twice
	}{
		"none":     {nil, 0},
		"chain":    {map[string][]string{"a": {"b"}, "b": {"c"}}, 0},
		"diamond":  {map[string][]string{"a": {"b", "c"}, "b": {"d"}, "c": {"d"}}, 0},
		"itself":   {map[string][]string{"a": {"a"}}, 2},
		"pair":     {map[string][]string{"a": {"b"}, "b": {"a"}}, 3},
		"far away": {map[string][]string{"x": {"a"}, "a": {"b"}, "b": {"c"}, "c": {"a"}}, 4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := findCycle(tt.edges); len(got) != tt.want {
				t.Errorf("findCycle(%v) = %v, want %d folders", tt.edges, got, tt.want)
			}
		})
	}
}
