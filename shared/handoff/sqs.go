package handoff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"pushcluster/shared/push"
)

const (
	// maxItem is the most bytes of one item of a queue, below SQS' limit of 1 MiB;
	// one message that is larger goes by itself.
	maxItem = 1_000_000
	// maxTaken is what SQS takes of such an item: its limit, less the attributes.
	maxTaken = 1<<20 - 256
)

// ErrItem means that the queue does not take an item such as this one, which
// tells nothing of Dispatch nor of other items. So it is for a message with more
// than 1 MiB of recipients and data, and for several that go together where the
// escapes of U+FFFE and U+FFFF in them make their item so large.
var ErrItem = errors.New("the queue does not take such an item")

// An sqsCarrier puts requests into a queue, each as one item, in which its
// messages keep their order; Dispatch takes them from there. The queue holds
// what it has accepted, so that is confirmed.
type sqsCarrier struct {
	client *sqs.Client
	http   *http.Client // what the SDK sends with
	queue  string       // its name
	url    once[string]
}

// newSQS returns a carrier to the queue of that name, in the region and with
// the credentials of the environment (package awsenv). It asks nobody.
func newSQS(queue string) (carrier, error) {
	// An item that is there twice changes nothing, so everything may be repeated.
	cfg, client, err := loadAWS(func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 300 * time.Millisecond })
	})
	if err != nil {
		return nil, err
	}
	return &sqsCarrier{client: sqs.NewFromConfig(cfg), http: client, queue: queue}, nil
}

func (c *sqsCarrier) most() int { return maxItem }

func (c *sqsCarrier) ordered() bool { return false }

// carry puts body into the queue. Items of one sender share a group, so that
// SQS lets nobody's backlog hold up the others'.
func (c *sqsCarrier) carry(ctx context.Context, body []byte, messages []push.Message, _ []error) error {
	url, err := c.url.get(func() (string, error) {
		out, err := c.client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(c.queue)})
		if err != nil {
			return "", err
		}
		return aws.ToString(out.QueueUrl), nil
	})
	if err != nil {
		return awsError(ctx, fmt.Errorf("look up queue %s: %w", c.queue, err))
	}
	body = escaped(body)
	if len(body) > maxTaken {
		return fmt.Errorf("%w: it has %d bytes, more than %d", ErrItem, len(body), maxTaken)
	}
	in := &sqs.SendMessageInput{
		QueueUrl: aws.String(url), MessageBody: aws.String(string(body)),
		MessageGroupId: aws.String(source(string(messages[0].ID))),
	}
	if trace := messages[0].Trace; trace != "" {
		in.MessageAttributes = map[string]types.MessageAttributeValue{
			"traceparent": {DataType: aws.String("String"), StringValue: aws.String(trace)}}
	}
	if _, err := c.client.SendMessage(ctx, in); err != nil {
		if api, ok := errors.AsType[smithy.APIError](err); ok && refusesItem(api.ErrorCode()) {
			return fmt.Errorf("%w: %s", ErrItem, api.ErrorCode())
		}
		return awsError(ctx, err)
	}
	return nil
}

// escaped returns body, which is JSON, without the two characters of JSON that
// SQS refuses, U+FFFE and U+FFFF: they stand in strings alone, where their
// escapes mean the same.
func escaped(body []byte) []byte {
	if !bytes.Contains(body, []byte("\uffff")) && !bytes.Contains(body, []byte("\ufffe")) {
		return body
	}
	body = bytes.ReplaceAll(body, []byte("\ufffe"), []byte(`\ufffe`))
	return bytes.ReplaceAll(body, []byte("\uffff"), []byte(`\uffff`))
}

// refusesItem reports whether SQS says by code that it is the item's fault.
func refusesItem(code string) bool {
	switch code {
	case "InvalidMessageContents", "InvalidParameterValue", "InvalidParameterValueException":
		return true
	}
	return false
}

func (c *sqsCarrier) close() { c.http.CloseIdleConnections() }

// checkQueue returns nil if name can be a queue's.
func checkQueue(name string) error {
	if name == "" || len(name) > 80 || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return errors.New("the URL of Dispatch must be sqs://QUEUE, where QUEUE is the name of a standard queue")
	}
	return nil
}
