package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// dump writes down a request as its handler sees it.
func dump(r *http.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\npath %s\nquery %s\nhost %s\nfrom %s\nlength %d\ninvoked %v\n",
		r.Method, r.RequestURI, r.URL.Path, r.URL.RawQuery, r.Host, r.RemoteAddr, r.ContentLength, Invoked(r.Context()))
	var names []string
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%s: %q\n", name, r.Header[name])
	}
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(&b, "\n%s\n", body)
	return b.String()
}

// TestGoldenEvents shows what handlers see of recorded events; set UPDATE=1 to
// write the golden files anew.
func TestGoldenEvents(t *testing.T) {
	for _, name := range []string{"httpapi_get", "httpapi_comma_header", "functionurl_base64"} {
		t.Run(name, func(t *testing.T) {
			payload, err := os.ReadFile(filepath.Join("testdata", "events", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			seen := ""
			events := Events{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen = dump(r)
				io.WriteString(w, "implicitly fine")
			})}
			answer, err := events.Answer(t.Context(), payload, discard())
			if err != nil {
				t.Fatal(err)
			}
			got := seen + "---\n" + string(answer) + "\n"
			golden := filepath.Join("testdata", "events", name+".golden")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestNobodyClaimsToBeInvoked sends what a client controls, filled with the
// marks of an invocation, through every front.
func TestNobodyClaimsToBeInvoked(t *testing.T) {
	front := `"version":"2.0","rawPath":"/","requestContext":{"apiId":"a","domainName":"d","http":{"method":"POST","sourceIp":"::1"}}`
	bare := `"version":"2.0","rawPath":"/","requestContext":{"http":{"method":"POST"}}`
	tests := map[string]struct {
		event string
		want  string // invoked, stranger, refused
	}{
		"by our own service":         {`{"invoke":"pushcluster/1",` + bare + `}`, "invoked"},
		"bare, without mark":         {`{` + bare + `}`, "stranger"},
		"mark in headers":            {`{"headers":{"invoke":"pushcluster/1","Invoke":"pushcluster/1"},` + front + `}`, "stranger"},
		"mark in body":               {`{"body":"{\"invoke\":\"pushcluster/1\"}",` + front + `}`, "stranger"},
		"mark in body, base64":       {`{"isBase64Encoded":true,"body":"eyJpbnZva2UiOiJwdXNoY2x1c3Rlci8xIn0=",` + front + `}`, "stranger"},
		"mark in query":              {`{"rawQueryString":"invoke=pushcluster/1","queryStringParameters":{"invoke":"pushcluster/1"},` + front + `}`, "stranger"},
		"mark in path parameters":    {`{"pathParameters":{"invoke":"pushcluster/1"},"stageVariables":{"invoke":"pushcluster/1"},` + front + `}`, "stranger"},
		"mark in an authorizer":      {`{"version":"2.0","rawPath":"/","requestContext":{"apiId":"a","authorizer":{"lambda":{"invoke":"pushcluster/1"}},"http":{"method":"POST"}}}`, "stranger"},
		"mark beside a front":        {`{"invoke":"pushcluster/1",` + front + `}`, "refused"},
		"mark in capitals and front": {`{"INVOKE":"pushcluster/1",` + front + `}`, "refused"},
		"another mark":               {`{"invoke":"true",` + bare + `}`, "refused"},
		"mark in a queue":            {`{"invoke":"pushcluster/1","Records":[{"messageId":"1","eventSource":"aws:sqs"}]}`, "refused"},
		"mark on an authorizer":      {`{"invoke":"pushcluster/1","type":"REQUEST","routeArn":"r",` + bare + `}`, "refused"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := "refused"
			events := Events{HTTP: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = "stranger"
				if Invoked(r.Context()) {
					got = "invoked"
				}
			})}
			_, err := events.Answer(t.Context(), []byte(tt.event), discard())
			if got != tt.want || errors.Is(err, ErrEvent) != (tt.want == "refused") {
				t.Errorf("answer(%s) = %s, %v, want %s", tt.event, got, err, tt.want)
			}
		})
	}
	// And not over plain HTTP.
	r, _ := http.NewRequest("POST", "/?invoke=pushcluster/1", strings.NewReader(`{"invoke":"pushcluster/1"}`))
	r.Header.Set("Invoke", invokeVersion)
	if Invoked(r.Context()) {
		t.Error("a plain request counts as invoked")
	}
}

func TestAnswers(t *testing.T) {
	event := `{"version":"2.0","rawPath":"/x","requestContext":{"apiId":"a","http":{"method":"%s","sourceIp":"::1"}}}`
	tests := map[string]struct {
		method string // GET if empty
		do     func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		"nothing at all": {"", func(http.ResponseWriter, *http.Request) {}, `{"statusCode":200,"body":"","isBase64Encoded":false}`},
		"implicit 200": {"", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") },
			`{"statusCode":200,"headers":{"Content-Type":"text/plain; charset=utf-8"},"body":"{}","isBase64Encoded":false}`},
		"first status counts, 1xx do not": {"", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(202)
			w.WriteHeader(500)
			w.Header().Set("Late", "no")
		}, `{"statusCode":202,"body":"","isBase64Encoded":false}`},
		"headers with commas and several": {"", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")
			w.Header().Add("Vary", "Origin")
			w.Header().Add("Vary", "Accept")
			w.Header().Set("Connection", "close")
			w.WriteHeader(204)
		}, `{"statusCode":204,"headers":{"Expires":"Thu, 01 Jan 1970 00:00:00 GMT","Vary":"Origin, Accept"},"body":"","isBase64Encoded":false}`},
		"several cookies": {"", func(w http.ResponseWriter, _ *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "1", Expires: time.Unix(0, 0)})
			http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
			w.WriteHeader(200)
		}, `{"statusCode":200,"cookies":["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT","b=2"],"body":"","isBase64Encoded":false}`},
		"bytes": {"", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/x")
			w.Write([]byte{0xff, 0x00})
		}, `{"statusCode":200,"headers":{"Content-Type":"image/x"},"body":"/wA=","isBase64Encoded":true}`},
		"compressed text": {"", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/x")
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "zip")
		}, `{"statusCode":200,"headers":{"Content-Encoding":"gzip","Content-Type":"text/x"},"body":"emlw","isBase64Encoded":true}`},
		"HEAD has no body": {"HEAD", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/x")
			io.WriteString(w, "body")
		}, `{"statusCode":200,"headers":{"Content-Type":"text/x"},"body":"","isBase64Encoded":false}`},
		"panic": {"", func(http.ResponseWriter, *http.Request) { panic("boom") }, `"code":"internal"`},
		"abort, halfway": {"", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "half")
			panic(http.ErrAbortHandler)
		}, `"code":"internal"`},
		"too large": {"", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/x")
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, `"code":"internal"`},
		"too large in base64": {"", func(w http.ResponseWriter, _ *http.Request) { w.Write(slices.Repeat([]byte{0xff}, 5<<20)) }, `"code":"internal"`},
		"many quotes": {"", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/x")
			io.WriteString(w, strings.Repeat(`"`, 4<<20))
		}, `"isBase64Encoded":true`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.method == "" {
				tt.method = "GET"
			}
			events := Events{HTTP: http.HandlerFunc(tt.do)}
			got, err := events.Answer(t.Context(), []byte(fmt.Sprintf(event, tt.method)), discard())
			if err != nil {
				t.Fatal(err)
			}
			var a eventAnswer
			if err := json.Unmarshal(got, &a); err != nil || len(got) > maxPayload {
				t.Fatalf("answer of %d bytes: %v", len(got), err)
			}
			if !strings.HasPrefix(tt.want, "{") {
				if !strings.Contains(string(got)+a.Body, tt.want) || strings.Contains(a.Body, "half") {
					t.Errorf("answer = %.300s, want %s", got, tt.want)
				}
				return
			}
			if string(got) != tt.want {
				t.Errorf("answer = %s, want %s", got, tt.want)
			}
		})
	}
}

type queueFunc func([]QueueItem) []error

func (f queueFunc) TakeQueue(_ context.Context, items []QueueItem) []error { return f(items) }

func TestQueue(t *testing.T) {
	whole, err := os.ReadFile("testdata/events/sqs_batch.json")
	if err != nil {
		t.Fatal(err)
	}
	bad := errors.New("no")
	tests := map[string]struct {
		event string
		take  func([]QueueItem) []error
		want  string // empty: the whole batch fails
	}{
		"all done": {string(whole), func([]QueueItem) []error { return make([]error, 2) }, `{"batchItemFailures":[]}`},
		"again is told": {string(whole), func(items []QueueItem) []error {
			if string(items[0].Body) != "first" || items[0].Again || string(items[1].Body) != "second" || !items[1].Again {
				return []error{bad, bad}
			}
			return make([]error, 2)
		}, `{"batchItemFailures":[]}`},
		"one is not": {string(whole), func([]QueueItem) []error { return []error{nil, bad} },
			`{"batchItemFailures":[{"itemIdentifier":"2e1424d4-f796-459a-8184-9c92662be6da"}]}`},
		"too few answers": {string(whole), func([]QueueItem) []error { return []error{nil} }, ""},
		"panic":           {string(whole), func([]QueueItem) []error { panic("boom") }, ""},
		"nameless item": {`{"Records":[{"messageId":"","eventSource":"aws:sqs"}]}`,
			func([]QueueItem) []error { return []error{bad} }, ""},
		"of another source": {`{"Records":[{"messageId":"1","eventSource":"aws:s3"}]}`,
			func([]QueueItem) []error { return []error{nil} }, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			after := 0
			events := Events{Queue: queueFunc(tt.take), After: func() { after++ }}
			got, err := events.Answer(t.Context(), []byte(tt.event), discard())
			if string(got) != tt.want || (err == nil) != (tt.want != "") || after != 1 {
				t.Errorf("answer = %s, %v (After ran %d times), want %s", got, err, after, tt.want)
			}
		})
	}
}

type scheduleFunc func(context.Context) error

func (f scheduleFunc) RunSchedule(ctx context.Context) error { return f(ctx) }

func TestSchedule(t *testing.T) {
	payload, err := os.ReadFile("testdata/events/schedule.json")
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(time.Hour)
	ctx, cancel := context.WithDeadline(t.Context(), end)
	defer cancel()
	events := Events{Schedule: scheduleFunc(func(ctx context.Context) error {
		if got, ok := ctx.Deadline(); !ok || !got.Before(end) {
			t.Errorf("the schedule's deadline is %v, want one before Lambda's %v", got, end)
		}
		return nil
	})}
	if got, err := events.Answer(ctx, payload, discard()); err != nil || string(got) != "{}" {
		t.Errorf("answer = %s, %v", got, err)
	}
	if _, err := (&Events{}).Answer(ctx, payload, discard()); !errors.Is(err, ErrEvent) {
		t.Errorf("a program without a schedule answers %v, want ErrEvent", err)
	}
}

type authFunc func(string) (map[string]string, error)

func (f authFunc) Authorize(_ context.Context, token string) (map[string]string, error) {
	return f(token)
}

func TestAuthorizer(t *testing.T) {
	whole, err := os.ReadFile("testdata/events/authorizer.json")
	if err != nil {
		t.Fatal(err)
	}
	auth := authFunc(func(token string) (map[string]string, error) {
		switch token {
		case "good":
			return map[string]string{"user": "42"}, nil
		case "away":
			return nil, errors.New("keys cannot be fetched")
		}
		return nil, fmt.Errorf("%w: bad", ErrRefused)
	})
	tests := map[string]struct{ source, want string }{
		"good":         {`["Bearer good"]`, `{"isAuthorized":true,"context":{"user":"42"}}`},
		"no scheme":    {`["good"]`, `{"isAuthorized":true,"context":{"user":"42"}}`},
		"lower case":   {`["bearer  good"]`, `{"isAuthorized":true,"context":{"user":"42"}}`},
		"second place": {`["","Bearer good"]`, `{"isAuthorized":true,"context":{"user":"42"}}`},
		"bad":          {`["Bearer bad"]`, `{"isAuthorized":false}`},
		"none":         {`[]`, `{"isAuthorized":false}`},
		"empty":        {`["Bearer "]`, `{"isAuthorized":false}`},
		"away":         {`["Bearer away"]`, ``},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			event := strings.Replace(string(whole), `["Bearer good"]`, tt.source, 1)
			got, err := (&Events{Auth: auth, HTTP: http.NotFoundHandler()}).Answer(t.Context(), []byte(event), discard())
			if string(got) != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("answer = %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestInvoke(t *testing.T) {
	events := Events{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Seen", fmt.Sprintf("%v %s %s %s %q", Invoked(r.Context()), r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Values("X-Two")))
		w.WriteHeader(418)
		w.Write(append(body, 0xff))
	})}
	r, err := http.NewRequestWithContext(t.Context(), "POST", "lambda://auth/v1/a%2Fb?c=d", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["X-Two"] = []string{"a", "b,c"}
	answer, err := events.Answer(t.Context(), InvokeEvent(r, []byte("\x00body")), discard())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := InvokeAnswer(r, answer)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if got, want := resp.Header.Get("Seen"), `true POST /v1/a%2Fb c=d ["a, b,c"]`; got != want || resp.StatusCode != 418 || string(body) != "\x00body\xff" {
		t.Errorf("invocation saw %s and answered %d %q, want %s", got, resp.StatusCode, body, want)
	}
	for _, bad := range []string{"", "null", "{}", `{"statusCode":99}`, `{"statusCode":200,"isBase64Encoded":true,"body":"!"}`, `{"errorMessage":"x"}`} {
		if _, err := InvokeAnswer(r, []byte(bad)); err == nil {
			t.Errorf("InvokeAnswer(%q) is no error", bad)
		}
	}
}

// FuzzEvent answers whatever a function may be invoked with: never a panic,
// never invoked beside a front, and every answer is one that Lambda takes.
func FuzzEvent(f *testing.F) {
	files, _ := filepath.Glob("testdata/events/*.json")
	for _, file := range files {
		payload, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Add([]byte(`{"invoke":"pushcluster/1","version":"2.0","rawPath":"%zz","requestContext":{"http":{"method":"A B"}}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		invoked := false
		events := Events{
			HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				invoked = Invoked(r.Context())
				if r.URL.Path == "" || r.URL.Path[0] != '/' || r.Body == nil {
					t.Errorf("path %q, body %v", r.URL.Path, r.Body)
				}
				io.Copy(w, r.Body)
			}),
			Queue: queueFunc(func(items []QueueItem) []error { return make([]error, len(items)) }),
			Auth:  authFunc(func(string) (map[string]string, error) { return nil, nil }),
		}
		answer, err := events.Answer(t.Context(), payload, discard())
		if err != nil {
			return
		}
		if !json.Valid(answer) || len(answer) > maxPayload {
			t.Errorf("answer to %q is %q", payload, answer)
		}
		var e event
		if invoked && (json.Unmarshal(payload, &e) != nil || e.Context.APIID != "" || e.Context.DomainName != "") {
			t.Errorf("%q counts as invoked", payload)
		}
	})
}
