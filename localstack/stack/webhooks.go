package stack

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// exampleSources is the file of sources that a stack begins with.
//
//go:embed sources.yaml
var exampleSources []byte

// SourceFacts are what one needs to post webhooks of a source.
type SourceFacts struct {
	URL    string `json:"url"`
	Secret string `json:"secret"`
}

// sourcesFile returns the path of the file of sources. Where the configuration
// names none, it is sources.yaml in the stack's directory, made of the example
// if it is not there.
func (s *Stack) sourcesFile() (string, error) {
	if s.cfg.Sources != "" {
		return s.cfg.Sources, nil
	}
	path := filepath.Join(s.cfg.Dir, "sources.yaml")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return path, nil
	}
	if err != nil {
		return "", err
	}
	_, err = f.Write(exampleSources)
	return path, errors.Join(err, f.Close())
}

// githubSecret is the variable whose value is the stack's own if the environment
// has none.
const githubSecret = "GITHUB_SECRET"

// secretOfGitHub returns what GITHUB_SECRET stands for.
func (s *Stack) secretOfGitHub() string { return cmp.Or(os.Getenv(githubSecret), s.cfg.Keys.GitHub) }

// lookUp finds what an env: secret stands for as Collect finds it, but for
// GITHUB_SECRET, which always is there.
func (s *Stack) lookUp(name string) string {
	if name == githubSecret {
		return s.secretOfGitHub()
	}
	return os.Getenv(name)
}

// SampleWebhook is a delivery as GitHub posts it, by which [DemoUser] is asked
// for a review.
const SampleWebhook = `{"action":"opened","pull_request":{"id":1,"title":"Speak plainly","html_url":"https://example.com/pull/1","requested_reviewers":[{"id":` + string(DemoUser) + `}]}}`

// SignGitHub returns the value of X-Hub-Signature-256 for body.
func SignGitHub(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
