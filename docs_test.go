package pushcluster_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pushcluster/shared/push"
)

// The tables of the documentation say what the code says. Examples are tested
// in localstack/e2e.

const (
	protocolPage   = "docs/protocol.md"
	operationsPage = "docs/operations.md"
)

// programs are the folders of the programs, in the order of their columns in the
// table of variables, behind the variables' names.
var programs = []string{"functions/auth", "functions/collect", "functions/dispatch", "pushnode"}

func TestDocsCodes(t *testing.T) {
	want := make(map[string]string)
	for code, status := range push.Codes() {
		want[string(code)] = strconv.Itoa(status)
	}
	compareTable(t, protocolPage, "Problem codes", column(t, tableUnder(t, protocolPage, "Problem codes"), 0, 1), want)
}

func TestDocsCloseCodes(t *testing.T) {
	want := pairsOf(t, "shared/push/closecode.go", "CloseCode")
	compareTable(t, protocolPage, "Close codes", column(t, tableUnder(t, protocolPage, "Close codes"), 0, 1), want)
}

func TestDocsErrorReplies(t *testing.T) {
	want := pairsOf(t, "pushnode/node/errors.go", "clientError")
	compareTable(t, protocolPage, "Error replies", column(t, tableUnder(t, protocolPage, "Error replies"), 0, 1), want)
}

func TestDocsVariables(t *testing.T) {
	const heading = "Variables"
	rows := tableUnder(t, operationsPage, heading)
	for i, program := range programs {
		t.Run(program, func(t *testing.T) {
			got := column(t, rows, 0, i+1)
			maps.DeleteFunc(got, func(_, cell string) bool { return cell == "–" })
			compareTable(t, operationsPage, heading, got, variablesIn(t, program+"/main.go"))
		})
	}
	t.Run("localstack", func(t *testing.T) {
		const heading = "Variables of make run"
		compareTable(t, operationsPage, heading, column(t, tableUnder(t, operationsPage, heading), 0, 1), variablesIn(t, "localstack/main.go"))
	})
}

func TestDocsMetrics(t *testing.T) {
	want := make(map[string]string)
	sources, err := readTree(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		if isTest(s.file) || !slices.Contains(s.imports, "github.com/prometheus/client_golang/prometheus") {
			continue
		}
		maps.Copy(want, metricsIn(t, s.file))
	}
	if len(want) < 20 {
		t.Fatalf("only %d metrics found in the code: this test looks in the wrong way", len(want))
	}
	got := make(map[string]string)
	for name, labels := range column(t, tableUnder(t, operationsPage, "Metrics"), 0, 1) {
		got[name] = strings.ReplaceAll(labels, ", ", ",")
	}
	compareTable(t, operationsPage, "Metrics", got, want)
}

// TestDocsNamedMetrics looks at every other place that names a metric.
func TestDocsNamedMetrics(t *testing.T) {
	known := column(t, tableUnder(t, operationsPage, "Metrics"), 0, 1)
	name := regexp.MustCompile(`\b(?:auth|collect|dispatch|pushnode|serve|token)_[a-z_]+_(?:total|seconds)\b`)
	for _, named := range name.FindAllString(readPage(t, operationsPage), -1) {
		if _, ok := known[named]; !ok {
			t.Errorf("%s names the metric %s, which its table does not have", operationsPage, named)
		}
	}
}

// TestDocsLinks follows every link to a file or a heading of the project.
func TestDocsLinks(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	decisions, err := filepath.Glob("docs/decisions/*.md")
	if err != nil {
		t.Fatal(err)
	}
	presets, err := filepath.Glob("docs/webhooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)
	for _, page := range slices.Concat(pages, presets, decisions, []string{"README.md"}) {
		for _, found := range link.FindAllStringSubmatch(readPage(t, page), -1) {
			target, anchor := found[1], found[2]
			if strings.Contains(target, "://") {
				continue
			}
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s, which is not there", page, target)
				continue
			}
			if anchor != "" && !slices.Contains(anchorsOf(readPage(t, file)), anchor) {
				t.Errorf("%s links to #%s, which is no heading of %s", page, anchor, file)
			}
		}
	}
}

// anchorsOf returns the names by which the headings of a page are linked to.
func anchorsOf(page string) []string {
	var anchors []string
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for line := range strings.Lines(page) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			name := drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			anchors = append(anchors, strings.ReplaceAll(name, " ", "-"))
		}
	}
	return anchors
}

// compareTable reports what a page's table lacks, has besides, or tells
// otherwise than the code.
func compareTable(t *testing.T, page, heading string, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		told, ok := got[name]
		switch {
		case !ok:
			t.Errorf("%s, %q: there is no row for %s (%s); write one", page, heading, name, want[name])
		case told != want[name]:
			t.Errorf("%s, %q: %s is %q there and %q in the code", page, heading, name, told, want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s, %q: there is a row for %s, which the code does not have; remove it", page, heading, name)
		}
	}
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// tableUnder returns the rows of all tables below a heading, up to the next
// heading of its level or above, without their first rows, which say what the
// columns are. Backticks are taken off cells that are nothing but code.
func tableUnder(t *testing.T, page, heading string) [][]string {
	t.Helper()
	var rows [][]string
	level, inTable := "", 0
	for line := range strings.Lines(readPage(t, page)) {
		line = strings.TrimSpace(line)
		marks := line[:len(line)-len(strings.TrimLeft(line, "#"))]
		switch {
		case marks != "" && strings.TrimSpace(line[len(marks):]) == heading:
			level = marks
		case marks != "" && level != "" && len(marks) <= len(level):
			return rows
		case level == "":
		case !strings.HasPrefix(line, "|"):
			inTable = 0
		default:
			if inTable++; inTable > 2 {
				rows = append(rows, cellsOf(line))
			}
		}
	}
	if level == "" {
		t.Fatalf("%s has no heading %q", page, heading)
	}
	return rows
}

func cellsOf(row string) []string {
	var cells []string
	for cell := range strings.SplitSeq(strings.Trim(row, "|"), "|") {
		cell = strings.TrimSpace(cell)
		if code := strings.Trim(cell, "`"); len(code) == len(cell)-2 && !strings.Contains(code, "`") {
			cell = code
		}
		cells = append(cells, cell)
	}
	return cells
}

// column returns one column of rows by another, in which nothing may occur twice.
func column(t *testing.T, rows [][]string, key, value int) map[string]string {
	t.Helper()
	m := make(map[string]string)
	for _, row := range rows {
		if _, ok := m[row[key]]; ok {
			t.Errorf("there are two rows for %s; remove one", row[key])
		}
		m[row[key]] = row[value]
	}
	return m
}
