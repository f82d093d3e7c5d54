package handoff

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

func askerKeys(t *testing.T) signature.Keys {
	t.Helper()
	k, err := signature.ParseKeys([]string{"a secret of more than 24 bytes"})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// asker returns an asker of a Dispatch that is h, behind the check of
// signatures.
func asker(t *testing.T, h http.HandlerFunc) *Asker {
	t.Helper()
	s := httptest.NewServer(signature.Require(signature.NewVerifier(signature.VerifierConfig{}, askerKeys(t)), 1<<20, h))
	t.Cleanup(s.Close)
	a, err := NewAsker(s.URL+"/", signature.NewSigner(askerKeys(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func TestAsk(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	info := push.InfoAnswer{Connections: []push.OpenConnection{{Node: "n", Device: "d", Since: at}}, Unanswered: []push.NodeID{"m"}}
	closed := push.DisconnectAnswer{Closed: 3}
	tests := map[string]struct {
		ask        func(a *Asker) (any, error)
		path, body string
		answer     any
	}{
		"info": {func(a *Asker) (any, error) { return a.Info(t.Context(), push.InfoRequest{User: "42"}) },
			"/v1/dispatch/info", `{"user":"42"}`, info},
		"disconnect": {func(a *Asker) (any, error) {
			return a.Disconnect(t.Context(), push.DisconnectRequest{User: "42", Device: "d"})
		}, "/v1/dispatch/disconnect", `{"user":"42","device":"d"}`, closed},
		"subscribe": {func(a *Asker) (any, error) {
			return a.Subscribe(t.Context(), push.SubscribeRequest{User: "42", Channel: "news"})
		}, "/v1/dispatch/subscribe", `{"user":"42","channel":"news"}`, push.SubscriptionAnswer{Connections: 2}},
		"unsubscribe": {func(a *Asker) (any, error) {
			return a.Unsubscribe(t.Context(), push.UnsubscribeRequest{User: "42", Channel: "news", Client: "c"})
		}, "/v1/dispatch/unsubscribe", `{"user":"42","channel":"news","client":"c"}`, push.SubscriptionAnswer{Connections: 1}},
		"revoke": {func(a *Asker) (any, error) {
			return a.Revoke(t.Context(), push.RevokeRequest{Revocation: push.Revocation{User: "42", At: at, Until: at}})
		}, "/v1/dispatch/revoke", `{"user":"42","at":"2030-01-01T00:00:00Z","until":"2030-01-01T00:00:00Z"}`, closed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.ask(asker(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if r.URL.Path != tt.path || string(body) != tt.body {
					t.Errorf("Dispatch was asked %s %s, want %s %s", r.URL.Path, body, tt.path, tt.body)
				}
				serve.JSON(w, 200, tt.answer)
			}))
			if err != nil || !reflect.DeepEqual(got, tt.answer) {
				t.Errorf("answered %+v, %v, want %+v", got, err, tt.answer)
			}
		})
	}
}

func TestAskErrors(t *testing.T) {
	tests := map[string]struct {
		handler http.HandlerFunc
		want    func(error) bool
	}{
		"a problem": {func(w http.ResponseWriter, r *http.Request) {
			serve.Problem(w, r, push.NewProblem(push.CodeUnavailable, "no"))
		}, func(err error) bool {
			p, ok := errors.AsType[*push.Problem](err)
			return ok && p.Code == push.CodeUnavailable
		}},
		"no problem": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(502) }, func(err error) bool { return errors.Is(err, ErrAnswer) }},
		"not JSON":   {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "{") }, func(err error) bool { return errors.Is(err, ErrAnswer) }},
		"cut off":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, func(err error) bool { return errors.Is(err, ErrUnreachable) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := asker(t, tt.handler).Info(t.Context(), push.InfoRequest{User: "42"}); err == nil || !tt.want(err) {
				t.Errorf("Info = %v", err)
			}
		})
	}
}

func TestAskerURL(t *testing.T) {
	tests := map[string]string{ // URL → part of the error
		"http://h:1":          "",
		"https://h/base":      "",
		"sqs://queue":         `questions by "sqs"`,
		"ftp://h":             `questions by "ftp"`,
		"http://":             "must be",
		"http://u:secret@h":   "must be",
		"http://h?q=1":        "must be",
		"127.0.0.1:8703":      "cannot be parsed; it is http://HOST:PORT or lambda://FUNCTION",
		"http://h\x7f:secret": "cannot be parsed",
	}
	for url, want := range tests {
		a, err := NewAsker(url, signature.NewSigner(askerKeys(t)))
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("NewAsker(%q) = %v, want an error with %q", url, err, want)
		}
		if a != nil {
			a.Close()
		}
	}
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add(200, []byte(`{"connections":[{"node":"n","since":"2030-01-01T00:00:00Z"}],"unanswered":["m"]}`))
	f.Add(503, []byte(`{"code":"unavailable"}`))
	f.Add(502, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, raw []byte) {
		var answer push.InfoAnswer
		err := decodeAnswer(status, raw, &answer)
		if err == nil && (status != 200 || !json.Valid(raw)) {
			t.Errorf("decodeAnswer(%d, %q) = nil", status, raw)
		}
		if _, isProblem := errors.AsType[*push.Problem](err); err != nil && !isProblem && !errors.Is(err, ErrAnswer) {
			t.Errorf("decodeAnswer(%d, %q) = %v, which is none of ours", status, raw, err)
		}
	})
}
