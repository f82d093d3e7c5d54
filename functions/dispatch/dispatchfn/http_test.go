package dispatchfn_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/signature"
)

const oneMessage = `{"messages":[{"id":"k/1","to":{"users":["42"]},"data":1,` +
	`"created_at":"2026-01-01T00:00:00Z","expires_at":"2999-01-01T00:00:00Z"}]}`

func TestHTTP(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	server := httptest.NewServer(c.Public(signature.NewVerifier(signature.VerifierConfig{Now: c.reg.Now}, keys(t))))
	defer server.Close()
	signed := &http.Client{Transport: &signature.Transport{
		Signer: signature.NewSigner(keys(t)), Base: server.Client().Transport, Now: c.reg.Now}}
	tests := map[string]struct {
		client *http.Client
		method string
		path   string
		body   string
		status int
		code   push.Code
	}{
		"good":             {signed, "POST", "/v1/dispatch", oneMessage, 200, ""},
		"unsigned":         {server.Client(), "POST", "/v1/dispatch", oneMessage, 401, push.CodeSignatureInvalid},
		"not JSON":         {signed, "POST", "/v1/dispatch", `{"messages"`, 400, push.CodeBadJSON},
		"unknown field":    {signed, "POST", "/v1/dispatch", `{"message":[]}`, 400, push.CodeUnknownField},
		"no messages":      {signed, "POST", "/v1/dispatch", `{"messages":[]}`, 400, push.CodeBadRequest},
		"too many":         {signed, "POST", "/v1/dispatch", `{"messages":[{}` + strings.Repeat(",{}", 1000) + `]}`, 400, push.CodeBadRequest},
		"too large":        {signed, "POST", "/v1/dispatch", strings.Repeat(" ", dispatchfn.MaxBody+1), 413, push.CodeBodyTooLarge},
		"wrong method":     {signed, "GET", "/v1/dispatch", "", 405, ""},
		"alive":            {server.Client(), "GET", "/healthz", "", 200, ""},
		"ready":            {server.Client(), "GET", "/readyz", "", 200, ""},
		"nothing there":    {signed, "POST", "/v1/other", oneMessage, 404, ""},
		"invalid messages": {signed, "POST", "/v1/dispatch", `{"messages":[{}]}`, 200, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			res, err := tt.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			var p push.Problem
			if tt.code != "" {
				if err := json.Unmarshal(body, &p); err != nil {
					t.Errorf("the body is no problem: %s", body)
				}
			}
			if res.StatusCode != tt.status || p.Code != tt.code {
				t.Errorf("%s %s = %d %s, want %d %s", tt.method, tt.path, res.StatusCode, body, tt.status, tt.code)
			}
		})
	}
	if c.inbox("#42", "k/1") == 0 {
		t.Error("the good message is not in the inbox")
	}
}

// FuzzDispatch sends bodies that no caller of ours would send.
func FuzzDispatch(f *testing.F) {
	c := newCluster(f, dispatchfn.Config{}, nil)
	f.Add([]byte(oneMessage))
	f.Add([]byte(`{"again":true,"messages":[{"id":"a","to":{"all":true,"channels":["news"]},"data":null,"expires_at":"2999-01-01T00:00:00Z"}]}`))
	f.Add([]byte(`{"messages":[{"id":"a","to":{"users":[""]},"data":{}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("POST", "/v1/dispatch", strings.NewReader(string(body)))
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		switch w.Code {
		case 200:
			var a push.DispatchAnswer
			if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
				t.Fatalf("answer %s: %v", w.Body, err)
			}
			for _, res := range a.Results {
				if res.Problem != nil && res.Problem.Status >= 500 {
					t.Errorf("%s is answered %v", body, res.Problem)
				}
			}
		case 400, 413:
		default:
			t.Errorf("%s is answered %d %s", body, w.Code, w.Body)
		}
	})
}
