package handoff

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
)

// awsDialTimeout bounds the opening of a connection to an AWS service.
const awsDialTimeout = time.Second

// loadAWS returns how AWS is reached, and as whom: the AWS SDK reads that from
// the process' own environment and files. It asks nobody. The second value is
// what the SDK then sends with: many at once to one host, and no connection that
// a function's sandbox has slept through for long.
func loadAWS(retryer func() aws.Retryer) (aws.Config, *http.Client, error) {
	cfg, err := config.LoadDefaultConfig(context.Background(), config.WithRetryer(retryer),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) {
			d.Timeout = awsDialTimeout
		}).WithTransportOptions(func(t *http.Transport) {
			t.TLSHandshakeTimeout = 2 * time.Second
			t.MaxIdleConnsPerHost = 64
			t.IdleConnTimeout = time.Minute
		})))
	if err != nil {
		return aws.Config{}, nil, fmt.Errorf("configure the AWS SDK: %w", err)
	}
	if cfg.Region == "" {
		return aws.Config{}, nil, errors.New("no AWS region is configured; set AWS_REGION")
	}
	// The SDK's own client cannot close its idle connections.
	client := &http.Client{
		Transport:     http.DefaultTransport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if built, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		client.Transport = built.GetTransport()
	}
	cfg.HTTPClient = client
	return cfg, client, nil
}

// retryThrottled tries again what was turned away before anything was done with
// it, and nothing else: a request that may have been taken is for the caller to
// repeat, who then says that it is a repeat.
func retryThrottled() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = 3
		o.MaxBackoff = 300 * time.Millisecond
		o.Retryables = []retry.IsErrorRetryable{retry.RetryableErrorCode{Codes: retry.DefaultThrottleErrorCodes}}
	})
}

// awsError says in this package's words why AWS did not do what it was asked.
func awsError(ctx context.Context, err error) error {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("%w: %s", ErrUnreachable, api.ErrorCode())
	}
	if netErr, ok := errors.AsType[net.Error](err); (ok && netErr.Timeout()) || ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// A once keeps what was found out at the first success. A failure is not kept.
type once[T any] struct {
	mu    sync.Mutex // held while asking
	found *T
}

// get returns what ask found, now or before.
func (o *once[T]) get(ask func() (T, error)) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.found != nil {
		return *o.found, nil
	}
	found, err := ask()
	if err == nil {
		o.found = &found
	}
	return found, err
}

// source returns who sent a message: the name of the API key or of the webhook
// source that its id begins with, "-" if its id does not tell.
func source(id string) string {
	name, _, ok := strings.Cut(id, "/")
	if !ok || name == "" {
		return "-"
	}
	return name
}
