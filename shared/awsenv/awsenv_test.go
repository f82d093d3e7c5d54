package awsenv

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// TestMain names a proxy for all tests: the environment is asked once.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"HTTP_PROXY": "http://proxy.example:3128", "HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "", "no_proxy": ""} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func TestProxy(t *testing.T) {
	tests := map[string]string{
		"https://sqs.eu-west-1.amazonaws.com/":  "http://proxy.example:3128",
		"http://169.254.170.2/v2/credentials/x": "",
		"http://[fe80::1]/":                     "",
	}
	for address, want := range tests {
		r := httptest.NewRequest(http.MethodGet, address, nil)
		u, err := NewClient().Transport.(*http.Transport).Proxy(r)
		got := ""
		if u != nil {
			got = u.String()
		}
		if err != nil || got != want {
			t.Errorf("%s is asked by way of %q, %v, want %q", address, got, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	// A container's credentials, as ECS and EKS serve them.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "let me in" {
			http.Error(w, `{"code":"denied","message":"no"}`, http.StatusUnauthorized)
			return
		}
		w.Write([]byte(`{"AccessKeyId":"TASK","SecretAccessKey":"s","Token":"t","Expiration":"2999-01-01T00:00:00Z"}`))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("let me in\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		env              map[string]string
		region, endpoint string
		key              string
		err              string // of Load, or of the credentials
	}{
		"Lambda": {map[string]string{"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"},
			"eu-west-1", "", "AKIA", ""},
		"default region, LocalStack": {map[string]string{"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://h:4566", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
			"us-east-1", "http://h:4566", "test", ""},
		"container": {map[string]string{"AWS_REGION": "eu-west-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "let me in"},
			"eu-west-1", "", "TASK", ""},
		"container, token in a file": {map[string]string{"AWS_REGION": "eu-west-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file},
			"eu-west-1", "", "TASK", ""},
		"container says no": {map[string]string{"AWS_REGION": "eu-west-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL}, "eu-west-1", "", "", "denied"},
		"nobody":            {map[string]string{"AWS_REGION": "eu-west-1"}, "eu-west-1", "", "", ErrNoCredentials.Error()},
		"nowhere":           {nil, "", "", "", "AWS_REGION"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			client := NewClient()
			defer client.CloseIdleConnections()
			cfg, err := Load(func(name string) string { return tt.env[name] }, client)
			if err == nil {
				var c aws.Credentials
				if c, err = cfg.Credentials.Retrieve(t.Context()); c.AccessKeyID != tt.key {
					t.Errorf("the key is %q, want %q", c.AccessKeyID, tt.key)
				}
			}
			if (err != nil) != (tt.err != "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("Load or Retrieve = %v, want %q", err, tt.err)
			}
			if cfg.Region != tt.region || aws.ToString(cfg.BaseEndpoint) != tt.endpoint {
				t.Errorf("Load = region %q, endpoint %q; want %q, %q", cfg.Region, aws.ToString(cfg.BaseEndpoint), tt.region, tt.endpoint)
			}
			if tt.key == "" && err != nil && strings.Contains(tt.err, "credentials") && !errors.Is(err, ErrNoCredentials) {
				t.Errorf("Retrieve = %v, want ErrNoCredentials", err)
			}
		})
	}
}
