package stack

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/secret"
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

// openSources reads the file of sources, to be followed by file.Run, and joins
// those of the store to it. Its secrets are found as Collect finds them, but for
// env:GITHUB_SECRET, which always is there.
func (s *Stack) openSources(ctx context.Context, l *life) (sources *source.Live, file *source.File, closeSecrets func(), err error) {
	path, err := s.sourcesFile()
	if err != nil {
		return nil, nil, nil, err
	}
	compiler, err := rule.NewCompiler()
	if err != nil {
		return nil, nil, nil, err
	}
	secrets := secret.NewResolver(func(name string) string {
		if name == githubSecret {
			return s.secretOfGitHub()
		}
		return os.Getenv(name)
	})
	file = source.NewFile(source.Config{Path: path}, compiler, secrets.Resolve, l.log, l.prom)
	if err := file.Load(ctx); err != nil {
		secrets.Close()
		return nil, nil, nil, fmt.Errorf("%s:\n%w", path, err)
	}
	return source.NewLive(file, l.store, compiler, secrets.Resolve, nil, l.log), file, secrets.Close, nil
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
