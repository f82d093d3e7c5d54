package handoff

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/handoff/handofftest"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// An awsServer answers as Lambda and SQS do: their wire formats, errors and
// checksums, for one function and one queue, both named "dispatch". The
// function is events; the queue delivers to it at once, and again until an item
// is done or was delivered five times.
type awsServer struct {
	*httptest.Server
	events  serve.Events
	mu      sync.Mutex // guards what follows
	status  int        // what everything is answered instead, if not 0
	code    string     // the error code that goes with it
	refused int        // how often that happens yet; -1: always
	groups  []string   // of the items that were sent
}

// newAWS starts a server and makes the AWS SDK ask it.
func newAWS(t *testing.T, events serve.Events) *awsServer {
	s := &awsServer{events: events}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": s.URL, "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "sesame",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
	return s
}

func (s *awsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	status, code := s.status, s.code
	if s.refused == 0 {
		status = 0
	} else if s.refused > 0 {
		s.refused--
	}
	s.mu.Unlock()
	fail := func(status int, code string) {
		w.Header().Set("X-Amzn-ErrorType", code)
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"__type":%q,"message":"no"}`, code)
	}
	switch {
	case status != 0:
		fail(status, code)
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=tester/"):
		fail(403, "AccessDeniedException")
	case r.URL.Path == "/2015-03-31/functions/dispatch/invocations":
		s.invoke(w, r, body)
	case r.Header.Get("X-Amz-Target") == "AmazonSQS.GetQueueUrl" && strings.Contains(string(body), `"dispatch"`):
		fmt.Fprintf(w, `{"QueueUrl":"%s/123456789012/dispatch"}`, s.URL)
	case r.Header.Get("X-Amz-Target") == "AmazonSQS.SendMessage":
		s.send(w, r, body, fail)
	default:
		fail(400, "ResourceNotFoundException")
	}
}

func (s *awsServer) invoke(w http.ResponseWriter, r *http.Request, payload []byte) {
	answer, err := s.events.Answer(r.Context(), payload, slog.New(slog.DiscardHandler))
	if err != nil {
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
		fmt.Fprintf(w, `{"errorMessage":%q,"errorType":"errorString"}`, err)
		return
	}
	w.Write(answer)
}

func (s *awsServer) send(w http.ResponseWriter, r *http.Request, body []byte, fail func(int, string)) {
	var in struct{ QueueUrl, MessageBody, MessageGroupId string }
	if json.Unmarshal(body, &in) != nil || in.QueueUrl != s.URL+"/123456789012/dispatch" || len(in.MessageBody) > 1<<20 {
		fail(400, "InvalidParameterValue")
		return
	}
	if strings.ContainsAny(in.MessageBody, "\ufffe\uffff") {
		fail(400, "InvalidMessageContents")
		return
	}
	s.mu.Lock()
	s.groups = append(s.groups, in.MessageGroupId)
	s.mu.Unlock()
	for count := 1; count <= 5; count++ {
		event, _ := json.Marshal(map[string]any{"Records": []any{map[string]any{
			"messageId": "one", "body": in.MessageBody, "eventSource": "aws:sqs",
			"attributes": map[string]string{"ApproximateReceiveCount": fmt.Sprint(count)}}}})
		answer, err := s.events.Answer(r.Context(), event, slog.New(slog.DiscardHandler))
		if err == nil && string(answer) == `{"batchItemFailures":[]}` {
			break
		}
	}
	sum := md5.Sum([]byte(in.MessageBody))
	fmt.Fprintf(w, `{"MessageId":"one","MD5OfMessageBody":%q}`, hex.EncodeToString(sum[:]))
}

// A taker is Dispatch behind a function and a queue: what came by the queue
// goes to the handler like what came by HTTP.
type taker struct{ http.Handler }

func (t taker) TakeQueue(ctx context.Context, items []serve.QueueItem) []error {
	errs := make([]error, len(items))
	for i, item := range items {
		var req push.DispatchRequest
		if err := json.Unmarshal(item.Body, &req); err != nil {
			errs[i] = err
			continue
		}
		req.Again = req.Again || item.Again
		body, _, _ := encode(req.Messages, req.Again, maxInvoke)
		w := httptest.NewRecorder()
		t.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/v1/dispatch", strings.NewReader(string(body))))
		if w.Code != http.StatusOK {
			errs[i] = fmt.Errorf("answered %d", w.Code)
		}
	}
	return errs
}

// ways starts Dispatch, which is h, behind each of the ways to it and returns
// their URLs. All AWS ways share one server.
func ways(t *testing.T, h func(http.ResponseWriter, *http.Request, push.DispatchRequest)) (urls map[string]string, d *dispatch, s *awsServer) {
	d = newDispatch(t, h)
	s = newAWS(t, serve.Events{HTTP: d.Config.Handler, Queue: taker{d.unsigned}})
	return map[string]string{"http": d.URL, "lambda": "lambda://dispatch", "sqs": "sqs://dispatch"}, d, s
}

// TestWays is what every way to Dispatch does alike.
func TestWays(t *testing.T) {
	urls, d, _ := ways(t, confirmAll)
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			handofftest.Run(t, handofftest.Way{
				New: func(t *testing.T, maxBody int) handofftest.Client {
					return newClient(t, url, Config{MaxBody: maxBody, Deadline: time.Minute}) // however slow this machine is
				},
				Take:      d.take,
				Rewritten: name == "sqs",
			})
		})
	}
}

// Only a queue gives no order to what is handed off one after another.
func TestOrdered(t *testing.T) {
	urls, _, _ := ways(t, confirmAll)
	for way, url := range urls {
		if got, want := newClient(t, url, Config{}).Ordered(), way != "sqs"; got != want {
			t.Errorf("over %s Ordered = %v, want %v", way, got, want)
		}
	}
}

// TestWaysThatFail is what AWS may answer instead.
func TestWaysThatFail(t *testing.T) {
	urls, d, s := ways(t, confirmAll)
	tests := map[string]struct {
		status  int
		code    string
		refused int
		want    error
	}{
		"throttled once":    {429, "TooManyRequestsException", 1, nil},
		"throttled":         {429, "TooManyRequestsException", -1, ErrUnreachable},
		"not allowed":       {403, "AccessDeniedException", -1, ErrUnreachable},
		"nothing like that": {404, "ResourceNotFoundException", -1, ErrUnreachable},
		"out of order":      {500, "ServiceException", -1, ErrUnreachable},
	}
	for _, way := range []string{"lambda", "sqs"} {
		for name, tt := range tests {
			t.Run(way+", "+name, func(t *testing.T) {
				s.mu.Lock()
				s.status, s.code, s.refused = tt.status, tt.code, tt.refused
				s.mu.Unlock()
				d.requests = nil
				errs := newClient(t, urls[way], Config{}).HandOff(t.Context(), messages(1, `1`), false)
				if !errors.Is(errs[0], tt.want) || (tt.want == nil && len(d.requests) != 1) {
					t.Errorf("HandOff = %v and %d requests, want %v", errs[0], len(d.requests), tt.want)
				}
			})
		}
	}
}

// What the queue does not take says nothing of Dispatch, so that nobody breaks
// with it for that, and nothing of what comes after it.
func TestItemThatIsNotTaken(t *testing.T) {
	urls, d, s := ways(t, confirmAll)
	wide := messages(1, `1`)
	for range 5000 {
		wide[0].To.Users = append(wide[0].To.Users, push.UserID(strings.Repeat("u", push.MaxName)))
	}
	tests := map[string]struct {
		messages []push.Message
		code     string // what SQS says, if it is asked
	}{
		"too large":         {wide, ""},
		"over its limit":    {messages(1, `1`), "InvalidParameterValue"},
		"of bad characters": {messages(1, `1`), "InvalidMessageContents"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, urls["sqs"], Config{Deadline: time.Minute})
			if err := c.HandOff(t.Context(), messages(1, `0`), false)[0]; err != nil { // it has asked where the queue is
				t.Fatal(err)
			}
			d.take()
			if tt.code != "" {
				s.mu.Lock()
				s.status, s.code, s.refused = 400, tt.code, 1
				s.mu.Unlock()
			}
			err := c.HandOff(t.Context(), tt.messages, false)[0]
			if !errors.Is(err, ErrItem) || errors.Is(err, ErrUnreachable) || errors.Is(err, ErrTimeout) {
				t.Errorf("HandOff = %v, want %v alone", err, ErrItem)
			}
			if err := c.HandOff(t.Context(), messages(1, `2`), false)[0]; err != nil || len(d.take()) != 1 {
				t.Errorf("the next HandOff = %v, want it handed off", err)
			}
		})
	}
}

func TestFunctionThatFails(t *testing.T) {
	tests := map[string]struct {
		answer func(http.ResponseWriter, *http.Request, push.DispatchRequest)
		events *serve.Events // instead
		cfg    Config
		want   error
	}{
		"one refused": {answer: func(w http.ResponseWriter, _ *http.Request, req push.DispatchRequest) {
			serve.JSON(w, 200, push.DispatchAnswer{Results: []push.DispatchResult{{ID: req.Messages[0].ID, Problem: push.NewProblem(push.CodeInvalidMessage, "no")}}})
		}, want: push.NewProblem(push.CodeInvalidMessage, "")},
		"unavailable": {answer: func(w http.ResponseWriter, r *http.Request, _ push.DispatchRequest) {
			serve.Problem(w, r, push.NewProblem(push.CodeUnavailable, "redis is away"))
		}, want: push.NewProblem(push.CodeUnavailable, "")},
		"panics":            {answer: func(http.ResponseWriter, *http.Request, push.DispatchRequest) { panic("boom") }, want: push.NewProblem(push.CodeInternal, "")},
		"knows no requests": {events: &serve.Events{}, want: ErrFunction},
		"does not answer": {answer: func(_ http.ResponseWriter, r *http.Request, _ push.DispatchRequest) { <-r.Context().Done() },
			cfg: Config{Deadline: 300 * time.Millisecond}, want: ErrTimeout},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			urls, _, s := ways(t, tt.answer)
			if tt.events != nil {
				s.events = *tt.events
			}
			errs := newClient(t, urls["lambda"], tt.cfg).HandOff(t.Context(), messages(1, `1`), false)
			if p, ok := tt.want.(*push.Problem); ok {
				if q, ok := errors.AsType[*push.Problem](errs[0]); !ok || q.Code != p.Code {
					t.Errorf("HandOff = %v, want a problem %s", errs[0], p.Code)
				}
				return
			}
			if !errors.Is(errs[0], tt.want) {
				t.Errorf("HandOff = %v, want %v", errs[0], tt.want)
			}
		})
	}
}

func TestQueueGroups(t *testing.T) {
	_, _, s := ways(t, confirmAll)
	c := newClient(t, "sqs://dispatch", Config{})
	for _, id := range []push.MessageID{"shop/1", "payments/evt_1/rule", "0198c0de-0000-7000-8000-000000000000"} {
		m := messages(1, `1`)
		m[0].ID = id
		if errs := c.HandOff(t.Context(), m, false); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	if got, want := fmt.Sprint(s.groups), "[shop payments -]"; got != want {
		t.Errorf("items went to the groups %s, want %s", got, want)
	}
}
