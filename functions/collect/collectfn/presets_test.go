package collectfn

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/signature"
)

// A recording is a delivery as a preset's sender makes it, signed at start, in
// testdata/presets/NAME.http. Its texts, ids and keys are made up; it was signed
// by other code than this project's.
type recording struct {
	secret string // that it is signed with, as it stands in the sources
	other  string // another of the kind
	id     string // of the delivery; "" the hash of its body
}

func recordings() map[string]recording {
	return map[string]recording{
		"standard":    {"whsec_/m00aM9cdNjsKpW0Dy4FM4w3pCAvj61p", "whsec_Piax2+WRqolS0PC7VASmFpFC97Im2Qaf", "msg_2kXvQ3ZpT1s8Yb"},
		"openai":      {"whsec_fTGU955kXELkOW3aOL4EdmgQ7GoA0ArO", "whsec_rJLufdJrAgM0yxHGbY5uIIg8RA9Ok61X", "wh_685342e6c53c8190a1be43f081506c52"},
		"replicate":   {"whsec_sjsGjIFCY5tCRuDpJJVIactIpN5fqbc5", "whsec_1860OFRAumm5XeNeE9icUF/ZHyNkQxPu", "msg_2mRvTtq5Wn0x"},
		"supabase":    {"whsec_TXWU5X99A/Ne3i0xbNpM2332ayiWNzjo", "whsec_VSW4ZGfMbtKMLtlhV0i4HkIiaMDc1KqV", "5a1b2c3d-0f4e-4c55-9a3b-7d1f0c2e8b66"},
		"svix":        {"whsec_kPcQFq+OkimSF62gB0nuGSEhjt8KU5Vt", "whsec_DkEKMdnfbgZM6yN3yzo45WOWCllUX7hr", "msg_2pWq9sXo7Rk4uT1nLd"},
		"clerk":       {"whsec_xA3HKwIo5YUNixc/+GGkis+0oVs3soSc", "whsec_MeX3mpWPYXIhD/VQO8JoEZwvsb4UFmeo", "msg_2qYc4vAo1Wm7eZ9pKx"},
		"resend":      {"whsec_beG+Nq/XoW0uT7UEPpIU1Df2Xkjqyq+f", "whsec_G+f6gZ2RdpsfWtGI6cq0tS48nwFFiAhD", "msg_2rZd5wBp2Xn8fA0qLy"},
		"stripe":      {"whsec_4pJ2sRk8vXq1ZtN7dLw3bYcH", "whsec_9aK3tSl9wYr2AuO8eMx4cZdI", "evt_1QkV2bLkdIwHu7ixqVfA7nDp"},
		"paddle":      {"pdl_ntfset_01hv8x2f6b_4pJ2sRk8vXq1ZtN7dLw3", "pdl_ntfset_01gt7w1e5a_9aK3tSl9wYr2AuO8eMx4", "ntf_01hv8x2f8s7a3p2sz8q4m5k6n7"},
		"elevenlabs":  {"wsec_4pJ2sRk8vXq1ZtN7dLw3bYcH9aK3tSl9", "wsec_9aK3tSl9wYr2AuO8eMx4cZdI1bL4uTm0", ""},
		"slack":       {"8f742231b10e4c6aa1cd99eef01785a5", "1c853342c21f5d7bb2de00ffa12896b6", "Ev08MFMKH6"},
		"webflow":     {"4pJ2sRk8vXq1ZtN7dLw3bYcH9aK3tSl9wYr2AuO8eMx4cZdI", "5qK3tSl9wYr2AuO8eMx4cZdI0bL4uTm0xZs3BvP9fNy5dAeJ", ""},
		"sendgrid":    {"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEP2aK2TqXBThTWPIrnT6wnBPEs22QI7FRRtN82bLlDcYQUbAwHW4cWk0fDWpJ1f870YKfgKrvJi7Nx2xZl5sD+Q==", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENaiqzeoJrduhCX/EmIMu7iQLJfSFi2i0GlM5lgbrQ5Y+Mo4hCDD8faCNdcmcnEuX282XroaGB4r7mYTQhMqqOQ==", ""},
		"fusionauth":  {"4pJ2sRk8vXq1ZtN7dLw3bYcH9aK3tSl9wYr2AuO8eMx4", "5qK3tSl9wYr2AuO8eMx4cZdI0bL4uTm0xZs3BvP9fNy5", "e4ba6ccb-6c33-4d84-bd35-44c4a5b7b5b2"},
		"github":      {"4pJ2sRk8vXq1ZtN7dLw3bYcH", "9aK3tSl9wYr2AuO8eMx4cZdI", "72d3162e-cc78-11e3-81ab-4c9367dc0958"},
		"shopify":     {"shpss_4pJ2sRk8vXq1ZtN7dLw3bYcH9aK3tSl9", "shpss_9aK3tSl9wYr2AuO8eMx4cZdI1bL4uTm0", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"},
		"cursor":      {"4pJ2sRk8vXq1ZtN7dLw3bYcH9aK3tSl9", "9aK3tSl9wYr2AuO8eMx4cZdI1bL4uTm0", "wh_5c2d8f1a"},
		"hookdeck":    {"4pJ2sRk8vXq1ZtN7dLw3bYcH9aK3tSl9wYr2AuO8eMx4cZdI", "5qK3tSl9wYr2AuO8eMx4cZdI0bL4uTm0xZs3BvP9fNy5dAeJ", "evt_y8pSUc9Uw0oKtnMgSe"},
		"woocommerce": {"4pJ2sRk8vXq1ZtN7dLw3bYcH9aK3tSl9wYr2AuO8", "5qK3tSl9wYr2AuO8eMx4cZdI0bL4uTm0xZs3BvP9", "807"},
		"vercel":      {"4pJ2sRk8vXq1ZtN7dLw3bYcH", "9aK3tSl9wYr2AuO8eMx4cZdI", "uev_6bQ1xZ9k2mVtRwPn"},
		"gitlab":      {"4pJ2sRk8vXq1ZtN7dLw3bYcH", "9aK3tSl9wYr2AuO8eMx4cZdI", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"},
		"deepgram":    {"9c8b7a65-4d3e-4f21-8a90-b1c2d3e4f506", "1a2b3c4d-5e6f-4a81-9b02-c3d4e5f60718", ""},
		"postmark":    {"postmark:4pJ2sRk8vXq1ZtN7dLw3bYcH", "postmark:9aK3tSl9wYr2AuO8eMx4cZdI", ""},
		"chargebee":   {"chargebee:4pJ2sRk8vXq1ZtN7dLw3bYcH", "chargebee:9aK3tSl9wYr2AuO8eMx4cZdI", "ev_16BHbhF4s42tO2lK"},
	}
}

func presetPage(name string) string  { return filepath.Join("../../../docs/webhooks", name+".md") }
func presetDelivery(n string) string { return filepath.Join("testdata/presets", n+".http") }

// recorded reads a recording: its request, without a body, and the body.
func recorded(t *testing.T, name string) (*http.Request, []byte) {
	t.Helper()
	raw, err := os.ReadFile(presetDelivery(name))
	if err != nil {
		t.Fatalf("a preset needs a recorded delivery: %v", err)
	}
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	return req, body
}

// page reads the page of a preset and returns its sources and its two scripts:
// what sets the secret, and what plays a delivery.
func page(t *testing.T, name string) (sources, setup, play string) {
	t.Helper()
	text, err := os.ReadFile(presetPage(name))
	if err != nil {
		t.Fatalf("a preset needs a page: %v", err)
	}
	yaml, scripts := fenced(string(text), "yaml"), fenced(string(text), "sh")
	if len(yaml) != 1 || len(scripts) != 2 {
		t.Fatalf("%s has %d blocks of yaml and %d of sh, want 1 and 2", presetPage(name), len(yaml), len(scripts))
	}
	return yaml[0], scripts[0], scripts[1]
}

// fenced returns the code blocks of a page that are in language.
func fenced(text, language string) []string {
	var blocks []string
	for {
		_, rest, found := strings.Cut(text, "```"+language+"\n")
		if !found {
			return blocks
		}
		var block string
		block, text, _ = strings.Cut(rest, "```")
		blocks = append(blocks, block)
	}
}

// TestRecordedDeliveries plays every preset's delivery to the rules of its page:
// it passes, its repeat gets the first answer and sends nothing, and each way to
// spoil it is refused with its own code.
func TestRecordedDeliveries(t *testing.T) {
	all := recordings()
	r := newRig(t) // one for all: their sources have names of their own
	for _, name := range signature.Presets() {
		t.Run(name, func(t *testing.T) {
			rec, ok := all[name]
			if !ok {
				t.Fatalf("there is no recording for the preset %s", name)
			}
			req, body := recorded(t, name)
			sources, _, _ := page(t, name)
			load := func(secret, retired string) *source.Set {
				set, err := source.Parse(t.Context(), []byte(withRetired(t, sources)), r.hooks.compiler, func(_ context.Context, value string) (string, error) {
					if value == "retired" {
						return retired, nil
					}
					return secret, nil
				})
				if err != nil {
					t.Fatal(err)
				}
				return set
			}
			now, then := load(rec.secret, rec.other), load(rec.other, rec.secret)
			send := func(body []byte, change func(http.Header)) *httptest.ResponseRecorder {
				again := httptest.NewRequest("POST", req.URL.RequestURI(), bytes.NewReader(body))
				again.Header = req.Header.Clone()
				change(again.Header)
				return r.do(again)
			}
			asRecorded := func(http.Header) {}
			at := func(d time.Duration) { r.set(func() { r.clock = start.Add(d) }) }
			r.hooks.set = now
			r.handedOff() // what was left of the one before
			scheme, _ := signature.Preset(name)
			proof := scheme.Proves()
			timed := proof.Time || name == "fusionauth" // whose recorded token names a time
			far := scheme.Tolerance + 61*time.Second    // and expires a minute later

			refusals := []struct {
				name string
				post func() *httptest.ResponseRecorder
				code push.Code // "" it passes, for the sender proves no such thing
			}{
				{"unsigned", func() *httptest.ResponseRecorder {
					return send(body, func(h http.Header) { h.Del(scheme.Header) })
				}, push.CodeSignatureMissing},
				{"signed with a retired secret", func() *httptest.ResponseRecorder {
					r.hooks.set = then
					defer func() { r.hooks.set = now }()
					return send(body, asRecorded)
				}, push.CodeSignatureRetired},
				{"altered by one byte", func() *httptest.ResponseRecorder { return send(altered(body), asRecorded) },
					codeIf(proof.Body, push.CodeSignatureInvalid)},
				{"late", func() *httptest.ResponseRecorder { at(far); defer at(0); return send(body, asRecorded) },
					codeIf(timed, push.CodeSignatureStale)},
				{"early", func() *httptest.ResponseRecorder { at(-far); defer at(0); return send(body, asRecorded) },
					codeIf(timed, push.CodeSignatureEarly)},
			}
			for _, tt := range refusals {
				if tt.code == "" {
					continue // it would pass, and be the first
				}
				if w := tt.post(); w.Code != 401 || codeOf(w) != tt.code {
					t.Errorf("%s: answer = %d %s, want 401 %s", tt.name, w.Code, w.Body, tt.code)
				}
			}
			if ids, _ := r.handedOff(); len(ids) > 0 {
				t.Fatalf("what was refused became %q", ids)
			}

			first := send(body, asRecorded)
			a := deliveryOf(t, first)
			if a.Outcome != outcomeAccepted || len(a.Messages) != 1 || rec.id != "" && a.Delivery != rec.id || rec.id == "" && !strings.HasPrefix(a.Delivery, "sha256-") {
				t.Fatalf("answer = %+v, want one message of the delivery %q", a, rec.id)
			}
			made := r.asked()
			if len(made) != 1 || made[0].Again || len(made[0].Messages) != 1 {
				t.Fatalf("Dispatch was asked %+v", made)
			}
			at(scheme.Tolerance - time.Second)
			again := send(body, asRecorded)
			if again.Body.String() != first.Body.String() || again.Header().Get(headerReplayed) != "true" {
				t.Errorf("answer to the repeat = %s %v, want the first: %s", again.Body, again.Header(), first.Body)
			}
			// Dispatch is told that it may know it, and then does nothing.
			for _, asked := range r.asked() {
				if !asked.Again || len(asked.Messages) != 1 || asked.Messages[0].ID != made[0].Messages[0].ID {
					t.Errorf("the repeat is handed off as %+v", asked)
				}
			}
			at(0)
			for _, tt := range refusals {
				if tt.code == "" {
					if w := tt.post(); w.Code == 401 {
						t.Errorf("%s: answer = %d %s, though the sender does not prove that it is not", tt.name, w.Code, w.Body)
					}
				}
			}
		})
	}
	for name := range all {
		if !slices.Contains(signature.Presets(), name) {
			t.Errorf("there is a recording for %s, which is no preset", name)
		}
	}
}

func codeIf(proved bool, code push.Code) push.Code {
	if proved {
		return code
	}
	return ""
}

// withRetired has the source of a page list a retired secret.
func withRetired(t *testing.T, sources string) string {
	t.Helper()
	changed := strings.Replace(sources, "    rules:\n", "    retired: [retired]\n    rules:\n", 1)
	if changed == sources {
		t.Fatalf("no rules in %s", sources)
	}
	return changed
}

// altered changes one byte within a text of a JSON body, so that it stays JSON.
func altered(body []byte) []byte {
	b := bytes.Clone(body)
	b[bytes.LastIndex(b, []byte(`":"`))+len(`":"`)] ^= 1
	return b
}

// TestPresetPages does what the pages say: it takes the sources, sets the
// secret and plays a signed delivery with openssl and curl.
func TestPresetPages(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "openssl", "od"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skipf("the pages cannot be tried: %v", err)
		}
	}
	r := newRig(t)
	index, err := os.ReadFile("../../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range signature.Presets() {
		t.Run(name, func(t *testing.T) {
			sources, setup, play := page(t, name)
			if link := "[`" + name + "`](webhooks/" + name + ".md)"; !strings.Contains(string(index), link) {
				t.Errorf("docs/webhooks.md does not link to the page: %s", link)
			}
			dir := t.TempDir()
			set, how, found := strings.Cut(setup, "SOURCES=sources.yaml make run\n")
			if !found || how != "" {
				t.Fatalf("the first script does not end in make run: %s", setup)
			}
			out := script(t, dir, nil, set+"env -0\n")
			env := strings.Split(out, "\x00")
			parsed, err := source.Parse(t.Context(), []byte(sources), r.hooks.compiler, func(_ context.Context, value string) (string, error) {
				for _, e := range env {
					if secret, ok := strings.CutPrefix(e, strings.TrimPrefix(value, "env:")+"="); ok {
						return secret, nil
					}
				}
				t.Errorf("the first script does not set %s", value)
				return "", os.ErrNotExist
			})
			if err != nil {
				t.Fatalf("the page's sources: %v", err)
			}
			r.hooks.set = parsed
			r.set(func() { r.clock = time.Now() })
			server := httptest.NewServer(r.h)
			defer server.Close()
			_, curl, _ := strings.Cut(play, "\ncurl ")
			answers := script(t, dir, append(env, "COLLECT="+server.URL), play+"curl "+curl)
			if n := strings.Count(answers, "202 Accepted"); n != 2 || !strings.Contains(answers, `"outcome":"accepted"`) {
				t.Errorf("the page's script says %s, want 202 twice and accepted", answers)
			}
			if strings.Count(answers, "Idempotent-Replayed: true") != 1 {
				t.Errorf("the last command again says %s, want Idempotent-Replayed", answers)
			}
		})
	}
}

// script runs a shell script of a page in dir and returns what it writes.
func script(t *testing.T, dir string, env []string, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-eu", "-c", text)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "no_proxy=*"}, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, stderr.String(), text)
	}
	return string(out)
}
