package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"pushcluster/pushctl/api"
	"pushcluster/pushctl/show"
	"pushcluster/shared/secret"
)

// settings are the flags of every command.
type settings struct {
	URL     string        `name:"url" env:"PUSHCLUSTER_URL,COLLECT_URL" placeholder:"URL" help:"Base URL of Collect."`
	Auth    string        `env:"AUTH_URL" placeholder:"URL" help:"Base URL of Auth; default: that of Collect, as behind one gateway."`
	Node    string        `env:"NODE_URL" placeholder:"URL" help:"Base URL of a push node, http(s) or ws(s)."`
	Key     string        `env:"PUSHCLUSTER_KEY" placeholder:"KEY" help:"API key, or where it is: env:NAME, file:PATH, or an ARN in Secrets Manager. As a flag others on the machine can read it."`
	Stack   string        `default:".local/stack.json" placeholder:"FILE" help:"What make run has written; counts when none of the above is given. Default: ${default}."`
	JSON    bool          `name:"json" help:"Print JSON for scripts: one value, or one a line for lists."`
	Colour  string        `name:"color" enum:"auto,always,never" default:"auto" help:"Colours: auto (on a terminal, unless NO_COLOR is set), always, never."`
	Timeout time.Duration `default:"10s" help:"How long one request may take."`
}

// given reports whether anything says where to ask, or as whom.
func (s *settings) given() bool { return s.URL+s.Auth+s.Node+s.Key != "" }

// A session is one run of pushctl: what its commands work with.
type session struct {
	settings
	parser *kong.Kong
	stdin  io.Reader
	out    *show.Printer
	stderr io.Writer
	now    func() time.Time
	getenv func(string) string

	facts  *facts // nil: none
	client *api.Client
}

// facts are what pushctl needs of stack.json.
type facts struct {
	Auth     string `json:"auth"`
	Collect  string `json:"collect"`
	Dispatch string `json:"dispatch"`
	Nodes    []struct {
		Public string `json:"public"`
	} `json:"nodes"`
	APIKey string `json:"api_key"`
}

// defaultStack is where make run writes, in its directory.
const defaultStack = ".local/stack.json"

// readFacts returns what the file at path says, nil if there is none where nobody
// named one.
func readFacts(path string) (*facts, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && path == defaultStack {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseFacts(path, text)
}

func parseFacts(path string, text []byte) (*facts, error) {
	f := &facts{}
	if err := json.Unmarshal(text, f); err != nil || f.Collect == "" {
		return nil, fmt.Errorf("%s is not what make run writes; remove it, or name another with --stack", path)
	}
	return f, nil
}

// api returns the client for Collect and Auth. The first call reads stack.json
// and the key, if that is where they are.
func (s *session) api(ctx context.Context) (*api.Client, error) {
	if s.client != nil {
		return s.client, nil
	}
	if !s.given() {
		var err error
		if s.facts, err = readFacts(s.Stack); err != nil {
			return nil, err
		}
	}
	cfg := api.Config{Collect: s.URL, Auth: s.Auth, Timeout: s.Timeout}
	switch {
	case s.facts != nil:
		cfg.Collect, cfg.Auth, cfg.Key = s.facts.Collect, s.facts.Auth, s.facts.APIKey
		if len(s.facts.Nodes) > 0 {
			s.Node = s.facts.Nodes[0].Public
		}
	default:
		if cfg.Auth == "" {
			cfg.Auth = cfg.Collect
		}
		var err error
		if cfg.Key, err = s.readKey(ctx); err != nil {
			return nil, err
		}
	}
	client, err := api.New(cfg)
	if err != nil {
		return nil, usage("%v", err)
	}
	s.URL, s.Auth, s.client = cfg.Collect, cfg.Auth, client
	return client, nil
}

// readKey returns the API key, "" if none is given.
func (s *session) readKey(ctx context.Context) (string, error) {
	secrets := secret.NewResolver(s.getenv)
	defer secrets.Close()
	key, err := secrets.Resolve(ctx, s.Key)
	if err != nil {
		return "", fmt.Errorf("the API key: %w", err)
	}
	return strings.TrimSpace(key), nil
}

func (s *session) close() {
	if s.client != nil {
		s.client.Close()
	}
}

// note tells something besides what was asked for.
func (s *session) note(format string, args ...any) {
	fmt.Fprintln(s.stderr, show.Clean(fmt.Sprintf(format, args...)))
}

// maxInput bounds what is read of a file or stdin that is taken as a whole, in
// bytes: no server takes more.
const maxInput = 1 << 20

// readInput returns the content of the file at path, of stdin if it is "-".
func (s *session) readInput(path string) ([]byte, error) {
	in := s.stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxInput {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxInput)
	}
	return text, nil
}
