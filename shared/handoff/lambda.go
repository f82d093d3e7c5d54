package handoff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"pushcluster/shared/serve"
)

// maxInvoke is the most bytes of body that go into one invocation: Lambda takes
// 6 MiB, and an event holds the body in base64.
const maxInvoke = 4 << 20

// ErrFunction means that a function was invoked and failed: it panicked, ran
// out of time or memory, or does not know such events.
var ErrFunction = errors.New("the function failed")

// An Invoker is an http.RoundTripper that brings requests for
// lambda://FUNCTION/path to that Lambda function, which runs in the same region
// and answers through package serve. IAM decides who may invoke it, so requests
// are not signed. It may be used by several goroutines.
type Invoker struct {
	client *lambda.Client
	http   *http.Client // what the SDK sends with
}

// NewInvoker returns an invoker with the region and the credentials of the
// process' environment (package awsenv). It asks nobody.
func NewInvoker() (*Invoker, error) {
	cfg, client, err := loadAWS(retryThrottled)
	if err != nil {
		return nil, err
	}
	return &Invoker{client: lambda.NewFromConfig(cfg), http: client}, nil
}

// RoundTrip invokes the function that r names, once; only what Lambda turned
// away because too much was going on is tried again. Its error wraps
// [ErrTimeout], [ErrUnreachable] or [ErrFunction].
func (i *Invoker) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("read the body to send: %w", err)
		}
	}
	out, err := i.client.Invoke(r.Context(), &lambda.InvokeInput{
		FunctionName: aws.String(r.URL.Hostname()),
		Payload:      serve.InvokeEvent(r, body),
	})
	if err != nil {
		return nil, awsError(r.Context(), err)
	}
	if out.FunctionError != nil {
		return nil, fmt.Errorf("%w: %s", ErrFunction, aws.ToString(out.FunctionError))
	}
	return serve.InvokeAnswer(r, out.Payload)
}

// CloseIdleConnections closes connections that are not in use.
func (i *Invoker) CloseIdleConnections() { i.http.CloseIdleConnections() }

// RPC returns the client for questions to the service at rawURL: for a
// lambda:// URL one that invokes the function, for any other signed, which signs
// its requests. The caller closes its idle connections.
func RPC(rawURL string, signed *http.Client) (*http.Client, error) {
	if !strings.HasPrefix(rawURL, "lambda://") {
		return signed, nil
	}
	invoker, err := NewInvoker()
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: invoker}, nil
}

// newLambda returns a carrier to the function whose invoker is i.
func newLambda(i *Invoker, function string) carrier {
	return &httpCarrier{url: "lambda://" + function + "/v1/dispatch", client: &http.Client{Transport: i}}
}

// invokeError keeps the words of an Invoker's error, which http.Client wraps.
func invokeError(err error) (error, bool) {
	for _, known := range []error{ErrTimeout, ErrFunction, ErrUnreachable} {
		if errors.Is(err, known) && !errors.Is(err, context.Canceled) {
			return err, true
		}
	}
	return nil, false
}
