// Package page is the page of localstack: a form that sends a message, and the
// messages of one user as they arrive, by a few lines of script over the client
// protocol. It is a help for looking and no part of the product: who can reach
// it can be any user, so it belongs on the loopback address only.
//
//	GET  /          the page
//	GET  /session   ?user=42 → {user, token, nodes, collect}
//	POST /messages  one message, brought to Collect with the stack's API key
//	GET  /healthz, /readyz
package page

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

//go:embed static
var static embed.FS

const (
	maxMessage     = 1 << 20          // bytes of a posted message; Collect's own limit
	collectTimeout = 10 * time.Second // for Collect's whole answer
	maxAnswer      = 1 << 20          // bytes of Collect's answer
)

// policy lets the page load and reach nothing but itself and the nodes.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self' ws://localhost:* ws://127.0.0.1:*; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

// A Cluster is what the page shows.
type Cluster interface {
	// NodeURLs returns the public base URLs of the nodes that run now.
	NodeURLs() []string
	// Token returns a connection token of user.
	Token(user push.UserID) (string, error)
}

// Config says where the page sends messages.
type Config struct {
	Collect string // base URL, without path
	APIKey  string // for Collect; the browser never sees it
}

// New returns the page's handler. Requests to Collect are made with client.
func New(cfg Config, cluster Cluster, client *http.Client, log *slog.Logger) (http.Handler, error) {
	if cfg.Collect == "" || cfg.APIKey == "" {
		return nil, errors.New("page: Config.Collect and Config.APIKey are required")
	}
	files, err := fs.Sub(static, "static")
	if err != nil {
		return nil, err
	}
	p := &page{cfg: cfg, cluster: cluster, client: client, log: log}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /session", p.session)
	mux.HandleFunc("POST /messages", p.messages)
	health := serve.Health(log)
	mux.Handle("GET /healthz", health)
	mux.Handle("GET /readyz", health)
	// Another site's page, open in the same browser, may neither post here nor,
	// by a name that it points at us, read here.
	return onlyLocal(http.NewCrossOriginProtection().Handler(mux)), nil
}

type page struct {
	cfg     Config
	cluster Cluster
	client  *http.Client
	log     *slog.Logger
}

// onlyLocal refuses requests that name this host otherwise than localhost or an
// address, and puts the page's policy on every answer.
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if host != "localhost" && net.ParseIP(strings.Trim(host, "[]")) == nil {
			serve.Problem(w, r, push.NewProblem(push.CodeForbiddenOrigin, "open the page as localhost or by its address"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// session tells the page who it is and where the nodes are.
func (p *page) session(w http.ResponseWriter, r *http.Request) {
	user := push.UserID(r.URL.Query().Get("user"))
	if err := user.Check(); err != nil {
		serve.Problem(w, r, push.NewProblem(push.CodeInvalidValue, "%v", err))
		return
	}
	token, err := p.cluster.Token(user)
	if err != nil {
		p.log.Warn("no token for the page", "err", err)
		serve.Problem(w, r, push.NewProblem(push.CodeInternal, "no token could be made"))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	serve.JSON(w, http.StatusOK, map[string]any{
		"user": user, "token": token, "nodes": p.cluster.NodeURLs(), "collect": p.cfg.Collect,
	})
}

// messages brings a message to Collect and Collect's answer back.
func (p *page) messages(w http.ResponseWriter, r *http.Request) {
	body, problem := serve.Body(w, r, maxMessage)
	if problem != nil {
		serve.Problem(w, r, problem)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), collectTimeout)
	defer cancel()
	status, kind, answer, err := p.post(ctx, body)
	if err != nil {
		p.log.Warn("collect not reached", "err", err)
		serve.Problem(w, r, push.NewProblem(push.CodeUnavailable, "Collect does not answer"))
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	w.Write(answer) // a page that left needs nothing
}

func (p *page) post(ctx context.Context, body []byte) (status int, kind string, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.Collect+"/v1/messages", bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-API-Key", p.cfg.APIKey)
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, resp.Header.Get("Content-Type"), answer, err
}
