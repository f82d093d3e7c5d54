package serve

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// maxPayload is the most bytes that Lambda takes as a synchronous answer.
const maxPayload = 6 << 20

// ErrEvent means that an event is of no kind that the program answers.
var ErrEvent = errors.New("an event of no kind that is answered here")

// An event is whatever Lambda may be invoked with, the members of all kinds in
// one: kind tells which it is. None of the members at this level is under the
// control of whoever sends a request to an HTTP API, a function URL or a queue:
// they fill headers, path, query, body and the bodies of records.
type event struct {
	// Payload format 2.0, of HTTP APIs, function URLs and their authorizers.
	Version         string            `json:"version"`
	RawPath         string            `json:"rawPath"`
	RawQuery        string            `json:"rawQueryString"`
	Cookies         []string          `json:"cookies"`
	Headers         map[string]string `json:"headers"`
	Context         eventContext      `json:"requestContext"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`

	// Authorizers alone.
	Type           string   `json:"type"`
	RouteARN       string   `json:"routeArn"`
	IdentitySource []string `json:"identitySource"`

	// Invocations by our own services alone: see InvokeEvent.
	Invoke string `json:"invoke"`

	// Queues.
	Records []record `json:"Records"`

	// Schedules.
	Source     string `json:"source"`
	DetailType string `json:"detail-type"`
}

type eventContext struct {
	APIID      string `json:"apiId"`
	DomainName string `json:"domainName"`
	HTTP       struct {
		Method   string `json:"method"`
		Protocol string `json:"protocol"`
		SourceIP string `json:"sourceIp"`
	} `json:"http"`
}

type record struct {
	MessageID   string `json:"messageId"`
	Body        string `json:"body"`
	EventSource string `json:"eventSource"`
	Attributes  struct {
		ReceiveCount string `json:"ApproximateReceiveCount"`
	} `json:"attributes"`
}

// A kind is what an event asks for.
type kind int

const (
	kindUnknown kind = iota
	kindHTTP         // a stranger's request, through an HTTP API or a function URL
	kindInvoke       // a request of our own services, which IAM let invoke the function
	kindAuthorize
	kindQueue
	kindSchedule
)

// kind tells what e asks for. An event that claims to be an invocation by our
// own services and yet came by an HTTP front is of no kind at all.
func (e *event) kind() kind {
	front := e.Context.APIID != "" || e.Context.DomainName != ""
	switch {
	case e.Invoke != "":
		if e.Invoke == invokeVersion && !front && e.Type == "" && e.isHTTP() {
			return kindInvoke
		}
		return kindUnknown
	case e.Type == "REQUEST" && e.RouteARN != "" && e.Version == "2.0":
		return kindAuthorize
	case e.isHTTP() && e.Type == "":
		return kindHTTP
	case len(e.Records) > 0:
		for _, r := range e.Records {
			if r.EventSource != "aws:sqs" {
				return kindUnknown
			}
		}
		return kindQueue
	case e.DetailType == "Scheduled Event" && e.Source == "aws.events":
		return kindSchedule
	}
	return kindUnknown
}

func (e *event) isHTTP() bool { return e.Version == "2.0" && e.Context.HTTP.Method != "" }

// request returns e as an HTTP request. Path, query and headers are what the
// client sent, undecoded and unsplit; the cookies are one header again.
func (e *event) request(ctx context.Context) (*http.Request, error) {
	body := []byte(e.Body)
	if e.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
			return nil, fmt.Errorf("%w: its body is not base64", ErrEvent)
		}
	}
	path := e.RawPath
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	u := &url.URL{Path: path, RawQuery: e.RawQuery}
	if decoded, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = decoded, path
	}
	r := (&http.Request{
		Method: e.Context.HTTP.Method, URL: u, RequestURI: path,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(e.Headers)+1),
		Body:   http.NoBody, ContentLength: int64(len(body)),
		Host:       e.Context.DomainName,
		RemoteAddr: net.JoinHostPort(e.Context.HTTP.SourceIP, "0"),
	}).WithContext(ctx)
	if e.RawQuery != "" {
		r.RequestURI += "?" + e.RawQuery
	}
	if len(body) > 0 {
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	for name, value := range e.Headers {
		switch key := http.CanonicalHeaderKey(name); key {
		case "Host":
			r.Host = value
		case "Content-Length", "Transfer-Encoding", "Connection": // of a hop that has ended
		default:
			r.Header.Set(key, value)
		}
	}
	if len(e.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	return r, nil
}

// parseEvent reads what Lambda was invoked with.
func parseEvent(payload []byte) (*event, kind, error) {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, kindUnknown, fmt.Errorf("%w: not JSON of a known shape", ErrEvent)
	}
	k := e.kind()
	if k == kindUnknown {
		return nil, k, ErrEvent
	}
	return &e, k, nil
}
