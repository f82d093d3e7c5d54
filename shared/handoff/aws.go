package handoff

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"

	"pushcluster/shared/awsenv"
)

// loadAWS returns how AWS is reached, and as whom, and what the SDK then sends
// with. It asks nobody.
func loadAWS(retryer func() aws.Retryer) (aws.Config, *http.Client, error) {
	client := awsenv.NewClient()
	cfg, err := awsenv.Load(os.Getenv, client) // which the platform sets for every program alike
	cfg.Retryer = retryer
	return cfg, client, err
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
