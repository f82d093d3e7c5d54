package serve

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

// invokeVersion marks an invocation by one of our own services. It stands where
// no front lets a client write.
const invokeVersion = "pushcluster/1"

type invokedKey struct{}

// Invoked reports whether the request of ctx is an invocation of this Lambda
// function by a service that IAM allowed to invoke it. Then it needs no
// signature. No request that came over HTTP, directly or through an HTTP API or
// a function URL, is ever invoked: the mark is in the context, and only the
// event's own structure, which a client does not write, sets it.
func Invoked(ctx context.Context) bool {
	invoked, _ := ctx.Value(invokedKey{}).(bool)
	return invoked
}

// InvokeEvent returns the event that brings r, whose body is body, to a Lambda
// function of ours: payload format 2.0 without a front, and marked. Several
// values of one header become one. It grows a body by a third.
func InvokeEvent(r *http.Request, body []byte) []byte {
	var e struct {
		Invoke          string            `json:"invoke"`
		Version         string            `json:"version"`
		RawPath         string            `json:"rawPath"`
		RawQuery        string            `json:"rawQueryString"`
		Headers         map[string]string `json:"headers"`
		Context         eventContext      `json:"requestContext"`
		Body            string            `json:"body,omitempty"`
		IsBase64Encoded bool              `json:"isBase64Encoded"`
	}
	e.Invoke, e.Version = invokeVersion, "2.0"
	e.RawPath, e.RawQuery = r.URL.EscapedPath(), r.URL.RawQuery
	e.Headers = make(map[string]string, len(r.Header))
	for name, values := range r.Header {
		e.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	e.Context.HTTP.Method = r.Method
	if r.Method == "" {
		e.Context.HTTP.Method = http.MethodGet
	}
	e.Context.HTTP.Protocol = "HTTP/1.1"
	if len(body) > 0 {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return mustEncode(e)
}

// InvokeAnswer returns what a function answered to the event of r. It fails if
// payload is no answer in payload format 2.0.
func InvokeAnswer(r *http.Request, payload []byte) (*http.Response, error) {
	var a eventAnswer
	if err := json.Unmarshal(payload, &a); err != nil || a.Status < 200 || a.Status > 599 {
		return nil, errors.New("the function's answer is not in payload format 2.0")
	}
	body := []byte(a.Body)
	if a.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(a.Body); err != nil {
			return nil, errors.New("the function's answer has a body that is not base64")
		}
	}
	header := make(http.Header, len(a.Headers)+1)
	for name, value := range a.Headers {
		header.Set(name, value)
	}
	for _, c := range a.Cookies {
		header.Add("Set-Cookie", c)
	}
	return &http.Response{
		Status: http.StatusText(a.Status), StatusCode: a.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		Request: r,
	}, nil
}
