package handoff

import (
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

	"pushcluster/shared/push"
)

// maxItem is the most bytes of one item of a queue, below SQS' limit of 1 MiB.
const maxItem = 1_000_000

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
	in := &sqs.SendMessageInput{
		QueueUrl: aws.String(url), MessageBody: aws.String(string(body)),
		MessageGroupId: aws.String(source(string(messages[0].ID))),
	}
	if trace := messages[0].Trace; trace != "" {
		in.MessageAttributes = map[string]types.MessageAttributeValue{
			"traceparent": {DataType: aws.String("String"), StringValue: aws.String(trace)}}
	}
	if _, err := c.client.SendMessage(ctx, in); err != nil {
		return awsError(ctx, err)
	}
	return nil
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
