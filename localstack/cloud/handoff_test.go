//go:build localstack

package cloud

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"pushcluster/shared/handoff"
	"pushcluster/shared/handoff/handofftest"
	"pushcluster/shared/push"
)

// takerName is the function's, and the queue's before it. It is none of the
// stack.
const takerName = "handoff-taker"

// handOff runs what every way to Dispatch does alike on LocalStack's Lambda and
// SQS, with a function at their end that tells this test what it got.
func (r *rig) handOff() {
	heard := r.listen()
	function := aws.String(takerName)
	if _, err := r.lambda.CreateFunction(r.t.Context(), &lambda.CreateFunctionInput{
		FunctionName: function, Runtime: lambdatypes.RuntimeProvidedal2023, Handler: aws.String("bootstrap"),
		Role: aws.String("arn:aws:iam::000000000000:role/" + takerName), Timeout: aws.Int32(30),
		Architectures: []lambdatypes.Architecture{lambdatypes.ArchitectureX8664}, Code: &lambdatypes.FunctionCode{ZipFile: r.zipTaker()},
		Environment: &lambdatypes.Environment{Variables: map[string]string{"TELL": heard.url}},
	}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		r.lambda.DeleteFunction(r.whole.Context(), &lambda.DeleteFunctionInput{FunctionName: function})
	})
	r.settled(takerName)
	queue, err := r.queues.CreateQueue(r.t.Context(), &sqs.CreateQueueInput{QueueName: function, Attributes: map[string]string{"VisibilityTimeout": "180"}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.queues.DeleteQueue(r.whole.Context(), &sqs.DeleteQueueInput{QueueUrl: queue.QueueUrl}) })
	source, err := r.lambda.CreateEventSourceMapping(r.t.Context(), &lambda.CreateEventSourceMappingInput{
		FunctionName: function, EventSourceArn: aws.String("arn:aws:sqs:" + region + ":000000000000:" + takerName), BatchSize: aws.Int32(10),
		FunctionResponseTypes: []lambdatypes.FunctionResponseType{lambdatypes.FunctionResponseTypeReportBatchItemFailures}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		r.lambda.DeleteEventSourceMapping(r.whole.Context(), &lambda.DeleteEventSourceMappingInput{UUID: source.UUID})
	})
	for way, queued := range map[string]bool{"lambda": false, "sqs": true} {
		r.t.Run(way, func(t *testing.T) {
			handofftest.Run(t, handofftest.Way{
				New: func(t *testing.T, maxBody int) handofftest.Client {
					c, err := handoff.New(way+"://"+takerName, handoff.Config{MaxBody: maxBody, Deadline: time.Minute}, nil) // IAM stands in for signatures
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(c.Close)
					return c
				},
				Take: heard.take, Unordered: queued, Rewritten: queued,
			})
		})
	}
}

// zipTaker builds the taker and packs it as Lambda wants it.
func (r *rig) zipTaker() []byte {
	r.t.Helper()
	program := filepath.Join(r.t.TempDir(), "bootstrap")
	build := exec.Command("go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags=-s -w", "-o", program, "./localstack/cloud/taker")
	build.Dir, build.Env = r.root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		r.t.Fatalf("build the taker: %v\n%s", err, out)
	}
	code, err := os.ReadFile(program)
	if err != nil {
		r.t.Fatal(err)
	}
	var packed bytes.Buffer
	z := zip.NewWriter(&packed)
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate}
	header.SetMode(0o755)
	f, err := z.CreateHeader(header)
	if err != nil {
		r.t.Fatal(err)
	}
	f.Write(code) // memory takes everything
	if err := z.Close(); err != nil {
		r.t.Fatal(err)
	}
	return packed.Bytes()
}

// A listener hears of requests from the taker.
type listener struct {
	url string

	mu       sync.Mutex // guards what follows
	requests []push.DispatchRequest
}

// listen starts a listener where containers reach it.
func (r *rig) listen() *listener {
	r.t.Helper()
	l, err := net.Listen("tcp", r.bridge+":0")
	if err != nil {
		r.t.Fatal(err)
	}
	heard := &listener{}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: heard}}
	s.Start()
	r.t.Cleanup(s.Close)
	heard.url = s.URL
	return heard
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req push.DispatchRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, req)
}

// take returns the requests since the last call.
func (l *listener) take() []push.DispatchRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.requests
	l.requests = nil
	return got
}
