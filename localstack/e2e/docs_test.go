package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pushcluster/localstack/stack"
	"pushcluster/shared/token"
)

// The examples of the documentation are tests. A fenced block whose info string
// has a second word takes part:
//
//	sh run         runs in a shell, all blocks of a page in one, beside .local/
//	json answer    what the block before printed; text answer too
//	text frames    is played on a WebSocket: see frames
//
// What differs from run to run (ids, offsets, times) counts by its form, and
// stands for the same wherever it occurs again: see recall.
const (
	kindRun    = "run"
	kindAnswer = "answer"
	kindFrames = "frames"
)

// A block is one fenced block that takes part.
type block struct {
	where string // file:line
	kind  string
	text  string
}

// documents returns the pages that may hold such blocks.
func documents(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(pages, "../../README.md")
}

// readBlocks returns the blocks of the page that take part.
func readBlocks(t *testing.T, page string) []block {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var (
		blocks []block
		open   *block
		inside bool
	)
	for i, line := range strings.Split(string(content), "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && inside:
			if open != nil {
				blocks = append(blocks, *open)
			}
			open, inside = nil, false
		case fence:
			inside = true
			if words := strings.Fields(info); len(words) == 2 {
				open = &block{where: fmt.Sprintf("%s:%d", filepath.Base(page), i+1), kind: words[1]}
			}
		case open != nil:
			open.text += line + "\n"
		}
	}
	for _, b := range blocks {
		if b.kind != kindRun && b.kind != kindAnswer && b.kind != kindFrames {
			t.Fatalf("%s: a block of kind %q; there are run, answer and frames", b.where, b.kind)
		}
	}
	return blocks
}

// A stage is a stack as `make run` leaves it: with its .local directory.
type stage struct {
	*stack.Stack
	dir   string // holds .local
	facts stack.Facts
}

// TestDocsIDs finds that no two pages send a message under one id: on one stack the
// second would be told that it is another's. (Deliveries of webhooks have ids of
// their own.)
func TestDocsIDs(t *testing.T) {
	given := regexp.MustCompile(`(?:--id |"id":"|-H 'Idempotency-Key: |"idempotency_key":")([\w-]+)`)
	home := make(map[string]string) // id → page
	for _, page := range documents(t) {
		for _, b := range ofKind(readBlocks(t, page), kindRun) {
			for _, m := range given.FindAllStringSubmatch(b.text, -1) {
				if first, ok := home[m[1]]; ok && first != page {
					t.Errorf("%s sends a message under the id %q, as %s does", b.where, m[1], filepath.Base(first))
				}
				home[m[1]] = page
			}
		}
	}
	if len(home) < 5 {
		t.Errorf("the pages give %d ids, want those of protocol.md and pushctl.md", len(home))
	}
}

// newStage starts a stack whose ports are free ones.
func newStage(t *testing.T) *stage {
	t.Helper()
	sg := &stage{dir: t.TempDir()}
	local := filepath.Join(sg.dir, ".local")
	if err := os.Mkdir(local, 0o700); err != nil {
		t.Fatal(err)
	}
	keys, err := stack.LoadKeys(filepath.Join(local, "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	sg.Stack = start(t, func(cfg *stack.Config) { cfg.Dir, cfg.Keys = local, keys })
	if sg.facts, err = sg.Facts(); err != nil {
		t.Fatal(err)
	}
	if err := sg.facts.Write(filepath.Join(local, "stack.json")); err != nil {
		t.Fatal(err)
	}
	return sg
}

// here turns the fixed ports that a page speaks of into those of this stage.
func (sg *stage) here(text string) string {
	var pairs []string
	add := func(port int, url string) {
		if url != "" {
			pairs = append(pairs, fmt.Sprintf("127.0.0.1:%d", port), strings.TrimPrefix(url, "http://"))
		}
	}
	add(8700, sg.Page.URL)
	for i, p := range []*stack.Process{sg.Auth, sg.Collect, sg.Dispatch} {
		add(8701+i, p.URL)
		add(8801+i, p.Internal)
	}
	for i, n := range sg.facts.Nodes {
		add(8711+i, n.Public)
		add(8811+i, n.Internal)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func TestDocsRun(t *testing.T) {
	for _, page := range documents(t) {
		blocks := readBlocks(t, page)
		if len(ofKind(blocks, kindRun)) == 0 {
			continue
		}
		t.Run(filepath.Base(page), func(t *testing.T) {
			for _, tool := range []string{"sh", "curl", "openssl"} {
				need(t, tool)
			}
			sg := newStage(t)
			printed := runBlocks(t, sg, ofKind(blocks, kindRun))
			known := make(recall)
			last := ""
			for _, b := range blocks {
				switch b.kind {
				case kindRun:
					last = printed[b.where]
				case kindAnswer:
					if err := known.match(sg.here(b.text), last); err != nil {
						t.Errorf("%s: %v\ngot:\n%s", b.where, err, last)
					}
				}
			}
		})
	}
}

func ofKind(blocks []block, kind string) []block {
	var list []block
	for _, b := range blocks {
		if b.kind == kind {
			list = append(list, b)
		}
	}
	return list
}

// runBlocks runs blocks one after another in one shell, and returns what each
// printed, by where it stands.
func runBlocks(t *testing.T, sg *stage, blocks []block) map[string]string {
	t.Helper()
	const mark = "=== end of the block"
	var script strings.Builder
	script.WriteString("set -eu\n")
	for _, b := range blocks {
		fmt.Fprintf(&script, "{\n%s}\nprintf '\\n%s\\n'\n", sg.here(b.text), mark)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script.String())
	cmd.Dir = sg.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	parts := strings.Split(out.String(), "\n"+mark+"\n")
	if err != nil {
		failed := min(len(parts)-1, len(blocks)-1)
		t.Fatalf("%s: %v\nit printed:\n%s", blocks[failed].where, err, parts[len(parts)-1])
	}
	printed := make(map[string]string)
	for i, b := range blocks {
		printed[b.where] = parts[i]
	}
	return printed
}

func TestDocsFrames(t *testing.T) {
	for _, page := range documents(t) {
		blocks := ofKind(readBlocks(t, page), kindFrames)
		if len(blocks) == 0 {
			continue
		}
		t.Run(filepath.Base(page), func(t *testing.T) {
			sg := newStage(t)
			expired, err := sg.TokenFor(token.Grant{User: stack.DemoUser, TTL: token.MinTTL})
			if err != nil {
				t.Fatal(err)
			}
			ended := time.After(token.MinTTL + 100*time.Millisecond)
			known := make(recall)
			for _, b := range blocks {
				if strings.Contains(b.text, tokenExpired) {
					<-ended
				}
				f := &frames{t: t, stage: sg, known: known, where: b.where, tokens: strings.NewReplacer(
					tokenExpired, expired, tokenGood, sg.facts.Token)}
				f.play(b.text)
			}
		})
	}
}
