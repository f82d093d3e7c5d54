//go:build linux

package target

import (
	"bufio"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReadReply(t *testing.T) {
	tests := map[string]struct {
		reply, want string
		fails       string
	}{
		"status":         {reply: "+PONG\r\n", want: "PONG"},
		"number":         {reply: ":42\r\n", want: "42"},
		"string":         {reply: "$3\r\na\r\n\r\n", want: "a\r\n"},
		"array":          {reply: "*2\r\n$1\r\na\r\n$1\r\nb\r\n", want: "b"},
		"empty array":    {reply: "*0\r\n"},
		"error":          {reply: "-ERR no\r\n", fails: "ERR no"},
		"nil":            {reply: "$-1\r\n", fails: "no reply"},
		"array in array": {reply: "*1\r\n*0\r\n", fails: "no reply"},
		"cut short":      {reply: "$5\r\nab", fails: "EOF"},
		"something else": {reply: "HTTP/1.1 400\r\n", fails: "no reply"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := readReply(bufio.NewReader(strings.NewReader(tt.reply)))
			if tt.fails == "" && (err != nil || string(got) != tt.want) {
				t.Errorf("readReply(%q) = %q, %v, want %q", tt.reply, got, err, tt.want)
			}
			if tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("readReply(%q): %v, want it to say %q", tt.reply, err, tt.fails)
			}
		})
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add("+PONG\r\n")
	f.Add("*2\r\n$1\r\na\r\n$1\r\nb\r\n")
	f.Fuzz(func(t *testing.T, reply string) {
		if got, err := readReply(bufio.NewReader(strings.NewReader(reply))); err == nil && len(got) > len(reply) {
			t.Fatalf("readReply(%q) = %q", reply, got)
		}
	})
}

func TestNoProblem(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		ok   bool
	}{
		"Dispatch took it": {`{"results":[{"id":"a"}]}`, true},
		"Dispatch did not": {`{"results":[{"id":"a"},{"id":"b","problem":{"code":"x"}}]}`, false},
		"Collect took it":  {`[{"id":"a"},{"id":"b"}]`, true},
		"Collect did not":  {`[{"id":"a"},{"type":"about:blank","status":422,"code":"x"}]`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := noProblem([]byte(tt.body)); (err == nil) != tt.ok {
				t.Errorf("noProblem(%s) = %v", tt.body, err)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	place := Place{Bin: t.TempDir(), Dir: t.TempDir(), CPU: -1}
	for _, kind := range []Kind{Cluster("node", "", ClusterConfig{}), SocketIO(t.TempDir()), Centrifuge(t.TempDir())} {
		if _, err := kind.Start(t.Context(), place, Options{}); !errors.Is(err, ErrMissing) {
			t.Errorf("%s on a machine that has nothing: %v, want ErrMissing", kind.Name, err)
		}
	}
}
