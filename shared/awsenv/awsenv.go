// Package awsenv tells how a program reaches AWS, and as whom, from what Lambda
// and ECS set in its environment:
//
//	AWS_REGION                               or AWS_DEFAULT_REGION
//	AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//	AWS_CONTAINER_CREDENTIALS_RELATIVE_URI   ECS
//	AWS_CONTAINER_CREDENTIALS_FULL_URI       EKS, with AWS_CONTAINER_AUTHORIZATION_TOKEN[_FILE]
//	AWS_ENDPOINT_URL                         one server for all services, as LocalStack is
//
// It stands in for the SDK's own config package, which also knows profiles,
// single sign-on and instance roles, and puts 2 MB of clients for those into a
// function that never has any of them.
package awsenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
)

// ErrNoCredentials means that the environment does not say who we are.
var ErrNoCredentials = errors.New("no AWS credentials in the environment; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run on Lambda or ECS")

// ecsHost is where ECS serves the credentials of a task.
const ecsHost = "http://169.254.170.2"

// Load returns the configuration of SDK clients that send with client, from the
// environment that getenv looks up. It asks nobody. A region is required.
// Without credentials every call fails with [ErrNoCredentials].
func Load(getenv func(string) string, client *http.Client) (aws.Config, error) {
	region := getenv("AWS_REGION")
	if region == "" {
		region = getenv("AWS_DEFAULT_REGION")
	}
	if region == "" {
		return aws.Config{}, errors.New("no AWS region is configured; set AWS_REGION")
	}
	cfg := aws.Config{
		Region: region, HTTPClient: client,
		Credentials: aws.NewCredentialsCache(provider(getenv, client)),
	}
	if endpoint := getenv("AWS_ENDPOINT_URL"); endpoint != "" {
		cfg.BaseEndpoint = aws.String(endpoint)
	}
	return cfg, nil
}

// provider returns where credentials come from.
func provider(getenv func(string) string, client *http.Client) aws.CredentialsProvider {
	if id := getenv("AWS_ACCESS_KEY_ID"); id != "" {
		return credentials.NewStaticCredentialsProvider(id, getenv("AWS_SECRET_ACCESS_KEY"), getenv("AWS_SESSION_TOKEN"))
	}
	url := getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if path := getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		url = ecsHost + path
	}
	if url == "" {
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, ErrNoCredentials
		})
	}
	return endpointcreds.New(url, func(o *endpointcreds.Options) {
		o.HTTPClient = client
		o.AuthorizationToken = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		if file := getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				raw, err := os.ReadFile(file)
				if err != nil {
					return "", fmt.Errorf("read the container's authorization token: %w", err)
				}
				return strings.TrimSpace(string(raw)), nil
			})
		}
	})
}

// proxy returns the proxy that the environment names for a request; none for a
// link-local address, where ECS has this task's credentials.
func proxy(r *http.Request) (*url.URL, error) {
	if ip, err := netip.ParseAddr(r.URL.Hostname()); err == nil && ip.IsLinkLocalUnicast() {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// NewClient returns an HTTP client for AWS services: many connections to one
// host, none kept for so long that a function's sandbox may have slept through
// its end, no redirects. The caller closes its idle connections.
func NewClient() *http.Client {
	dialer := net.Dialer{Timeout: time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               proxy,
			DialContext:         dialer.DialContext,
			TLSHandshakeTimeout: 2 * time.Second,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     time.Minute,
			ForceAttemptHTTP2:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
