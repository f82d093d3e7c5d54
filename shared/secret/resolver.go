package secret

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// A Resolver finds what values stand for. It may be used by several goroutines;
// what it needs to ask Secrets Manager it makes at the first ARN. It keeps no
// secret: each Resolve looks anew.
type Resolver struct {
	getenv func(string) string

	mu      sync.Mutex                        // guards what follows
	clients map[string]*secretsmanager.Client // by region
	http    []*http.Client                    // what they send with
}

// NewResolver returns a resolver for values of the environment that getenv
// looks up. It does no I/O. How Secrets Manager is reached, and as whom, comes
// from the process' own environment: see package awsenv.
func NewResolver(getenv func(string) string) *Resolver {
	return &Resolver{getenv: getenv, clients: make(map[string]*secretsmanager.Client)}
}

// Resolve returns what value stands for:
//
//	env:NAME   the environment variable NAME, which must be set
//	file:PATH  the content of a file of at most 64 KiB, without its last newline
//	arn:…      a secret in AWS Secrets Manager: see [Resolver.arn]
//
// Anything else stands for itself. What it finds is not resolved once more.
func (r *Resolver) Resolve(ctx context.Context, value string) (string, error) {
	scheme, rest, _ := strings.Cut(value, ":")
	switch scheme {
	case "env":
		found := r.getenv(rest)
		if found == "" {
			return "", fmt.Errorf("env:%s: the variable %q is not set", rest, rest)
		}
		return found, nil
	case "file":
		return readFile(rest)
	case "arn":
		return r.arn(ctx, value)
	}
	return value, nil
}

// Close closes the connections to Secrets Manager that idle. The resolver may
// still be used.
func (r *Resolver) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.http {
		c.CloseIdleConnections()
	}
}

// Resolve returns what value stands for, with a [Resolver] of its own.
func Resolve(ctx context.Context, value string, getenv func(string) string) (string, error) {
	r := NewResolver(getenv)
	defer r.Close()
	return r.Resolve(ctx, value)
}

// A secretARN is the ARN of a secret, in the form that ECS also takes:
//
//	arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME[:KEY[:STAGE]]
type secretARN struct {
	id     string // the ARN without what follows NAME
	region string
	key    string // a member of the secret's JSON object; empty: all of it
	stage  string // a version stage; empty: AWSCURRENT
}

// parseARN reads an ARN. Its errors tell the ARN, which is no secret.
func parseARN(value string) (secretARN, error) {
	parts := strings.Split(value, ":")
	if len(parts) < 7 || parts[2] != "secretsmanager" || parts[5] != "secret" || parts[3] == "" || parts[6] == "" {
		return secretARN{}, fmt.Errorf("%.100q is not arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME: %w", value, ErrUnsupported)
	}
	a := secretARN{id: strings.Join(parts[:7], ":"), region: parts[3]}
	if len(parts) > 9 {
		return secretARN{}, errors.New("after the name of a secret an ARN may hold a key and a version stage, no more")
	}
	if len(parts) > 7 {
		a.key = parts[7]
	}
	if len(parts) > 8 {
		a.stage = parts[8]
	}
	return a, nil
}
