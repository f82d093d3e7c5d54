package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"pushcluster/shared/awsenv"
)

// awsTimeout bounds one question to Secrets Manager, its repeats included.
const awsTimeout = 5 * time.Second

// arn returns the value of a secret in Secrets Manager. Of a JSON object it is
// the member that the ARN names; if it names none, the object's members as
// "name:value" lines in their order, which is how API keys and token keys are
// written: a secret that Secrets Manager generates, {"shop":"…"}, is a list of
// one API key.
func (r *Resolver) arn(ctx context.Context, value string) (string, error) {
	a, err := parseARN(value)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, awsTimeout)
	defer cancel()
	client, err := r.client(a.region)
	if err != nil {
		return "", err
	}
	in := &secretsmanager.GetSecretValueInput{SecretId: aws.String(a.id)}
	if a.stage != "" {
		in.VersionStage = aws.String(a.stage)
	}
	out, err := client.GetSecretValue(ctx, in)
	if err != nil {
		// The rest of the SDK's errors is pages of request ids and causes.
		if api, ok := errors.AsType[smithy.APIError](err); ok {
			return "", fmt.Errorf("read secret %s: %s", a.id, api.ErrorCode())
		}
		return "", fmt.Errorf("read secret %s: %w", a.id, err)
	}
	text := aws.ToString(out.SecretString)
	if out.SecretString == nil {
		text = string(out.SecretBinary)
	}
	found, err := pick(text, a.key)
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", a.id, err)
	}
	return found, nil
}

// client returns the client of a region.
func (r *Resolver) client(region string) (*secretsmanager.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.clients[region]; c != nil {
		return c, nil
	}
	http := awsenv.NewClient()
	cfg, err := awsenv.Load(func(name string) string {
		if name == "AWS_REGION" {
			return region
		}
		return os.Getenv(name) // who we are at AWS, the platform tells every program alike
	}, http)
	if err != nil {
		return nil, err
	}
	r.http = append(r.http, http)
	c := secretsmanager.NewFromConfig(cfg)
	r.clients[region] = c
	return c, nil
}

// pick returns the part of a secret's text that key names. Its errors tell names
// of members, never a value.
func pick(text, key string) (string, error) {
	if text == "" {
		return "", errors.New("it is empty")
	}
	if key == "" && !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return text, nil
	}
	members, err := readMembers(text)
	if err != nil {
		return "", err
	}
	var lines []string
	for _, m := range members {
		var value string
		isText := json.Unmarshal(m.value, &value) == nil
		switch {
		case key == "" && !isText:
			return "", fmt.Errorf("its member %q is no string", m.name)
		case key == "":
			lines = append(lines, m.name+":"+value)
		case key == m.name && isText:
			return value, nil
		case key == m.name:
			return string(m.value), nil
		}
	}
	if key != "" {
		return "", fmt.Errorf("it has no member %q", key)
	}
	return strings.Join(lines, "\n"), nil
}

type member struct {
	name  string
	value json.RawMessage
}

// readMembers returns the members of a JSON object, in their order.
func readMembers(text string) ([]member, error) {
	bad := errors.New("it is not a JSON object")
	dec := json.NewDecoder(strings.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, bad
	}
	var list []member
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, bad
		}
		n, _ := name.(string) // a JSON object's names are strings
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, bad
		}
		list = append(list, member{n, value})
	}
	if _, err := dec.Token(); err != nil || len(list) == 0 {
		return nil, bad
	}
	return list, nil
}
