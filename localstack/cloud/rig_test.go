//go:build localstack

package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"pushcluster/shared/awsenv"
	"pushcluster/shared/store/storetest"
)

const (
	region    = "us-east-1"
	stackName = "pushcluster-test"
	patience  = 30 * time.Second // until something that is due counts as lost
)

// A rig is the cluster on LocalStack: functions that sam deployed, nodes in
// containers, Redis and FerretDB as processes of this machine.
type rig struct {
	t       *testing.T // of the step under way
	whole   *testing.T
	root    string // of the project
	bridge  string // this machine, as containers see it
	edge    string // LocalStack's URL, from here
	outputs map[string]string

	lambda  *lambda.Client
	secrets *secretsmanager.Client
	queues  *sqs.Client

	redisARN, storeARN string
	metadata           *httptest.Server
	collect, auth      *httptest.Server // the function URLs, under names that resolve
	apiKey             string

	mu    sync.Mutex // guards what follows
	nodes []*node
}

// A node is a push node in a container.
type node struct {
	container, ip string
	gone          bool
}

// say prints a line of progress: some of this takes minutes.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "localstack-test: "+format+"\n", args...)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, whole: t, root: root, edge: "http://127.0.0.1:4566", bridge: bridgeIP(t)}
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": r.edge, "AWS_REGION": region, "AWS_DEFAULT_REGION": region,
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "SAM_CLI_TELEMETRY": "0", "ARCH": "x86_64",
	} {
		t.Setenv(name, value)
	}
	useDocker(t, root)
	client := awsenv.NewClient()
	t.Cleanup(client.CloseIdleConnections)
	cfg, err := awsenv.Load(os.Getenv, client)
	if err != nil {
		t.Fatal(err)
	}
	r.lambda, r.secrets, r.queues = lambda.NewFromConfig(cfg), secretsmanager.NewFromConfig(cfg), sqs.NewFromConfig(cfg)

	say("starting Redis and FerretDB")
	r.redisARN = r.secret("test-redis-url", "redis://"+r.startRedis()+"/0")
	r.storeARN = r.secret("test-store-url", r.startFerretDB()+"pushcluster?maxUpdates=40")
	return r
}

// useDocker talks to the daemon that localstack-up has started, if there is one.
func useDocker(t *testing.T, root string) {
	if host, err := os.ReadFile(filepath.Join(root, ".local/cloud/docker-host")); err == nil {
		t.Setenv("DOCKER_HOST", strings.TrimSpace(string(host)))
	}
}

func bridgeIP(t *testing.T) string {
	t.Helper()
	i, err := net.InterfaceByName("docker0")
	if err != nil {
		t.Fatalf("no docker0, run make localstack-up: %v", err)
	}
	addrs, err := i.Addrs()
	if err != nil || len(addrs) == 0 {
		t.Fatalf("docker0 has no address: %v", err)
	}
	ip, _, err := net.ParseCIDR(addrs[0].String())
	if err != nil {
		t.Fatal(err)
	}
	return ip.String()
}

// run runs a command in the project's root and returns what it printed.
func (r *rig) run(name string, args ...string) string {
	r.t.Helper()
	out, err := r.try(name, args...)
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// answer is run without what the command warned of: docker does so where the
// machine forwards no packets, which nothing here needs.
func (r *rig) answer(name string, args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(r.t.Context()), name, args...)
	cmd.Dir = r.root
	var warned strings.Builder
	cmd.Stderr = &warned
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &warned)
	}
	return strings.TrimSpace(string(out))
}

func (r *rig) try(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(context.WithoutCancel(r.t.Context()), name, args...)
	cmd.Dir = r.root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// background starts a process that ends with the test.
func (r *rig) background(cmd *exec.Cmd) {
	r.t.Helper()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
}

func (r *rig) startRedis() string {
	r.t.Helper()
	l, err := net.Listen("tcp", r.bridge+":0")
	if err != nil {
		r.t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	r.background(exec.Command("redis-server", "--bind", r.bridge, "--port", port, "--save", "", "--protected-mode", "no", "--dir", r.t.TempDir()))
	r.until("Redis listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return addr
}

func (r *rig) startFerretDB() string {
	r.t.Helper()
	program, err := storetest.FerretDBProgram(r.t.Logf)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(program, "-listen", r.bridge+":0", "-dir", r.t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	r.background(cmd)
	line := make([]byte, 256)
	n, err := out.Read(line)
	if err != nil {
		r.t.Fatalf("FerretDB says nothing: %v", err)
	}
	return strings.TrimSpace(string(line[:n]))
}

// until waits until ok holds.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	r.within(patience, what, ok)
}

func (r *rig) within(most time.Duration, what string, ok func() bool) {
	r.t.Helper()
	end := time.After(most)
	beat := time.NewTicker(200 * time.Millisecond)
	defer beat.Stop()
	for !ok() {
		select {
		case <-end:
			r.t.Fatalf("waited %s in vain: %s", most, what)
		case <-beat.C:
		}
	}
}

// secret makes a secret, or gives it a new text, and returns its ARN.
func (r *rig) secret(name, text string) string {
	r.t.Helper()
	out, err := r.secrets.CreateSecret(r.t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: &text})
	if err == nil {
		return aws.ToString(out.ARN)
	}
	put, err := r.secrets.PutSecretValue(r.t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &name, SecretString: &text})
	if err != nil {
		r.t.Fatal(err)
	}
	return aws.ToString(put.ARN)
}

// deploy deploys the template as it was built.
func (r *rig) deploy(logLevel string) error {
	out, err := r.try(r.sam(), "deploy", "--stack-name", stackName, "--resolve-s3", "--capabilities", "CAPABILITY_IAM",
		"--no-confirm-changeset", "--no-progressbar", "--no-fail-on-empty-changeset",
		"--parameter-overrides", "Architecture=x86_64", "DeployHttpApi=false", "DeployPushNodes=false", "DispatchTimeout=2",
		"LogLevel="+logLevel, "RedisUrlSecretArn="+r.redisARN, "StoreUrlSecretArn="+r.storeARN)
	if err != nil {
		return fmt.Errorf("sam deploy: %w\n%s", err, out)
	}
	return nil
}

func (r *rig) sam() string {
	if sam := os.Getenv("SAM"); sam != "" {
		return sam
	}
	return filepath.Join(r.root, ".local/aws-tools/bin/sam")
}

// credential is what LocalStack reads the name of a service from; it checks no
// signature.
func credential(service string) string {
	return "AWS4-HMAC-SHA256 Credential=test/20260101/" + region + "/" + service + "/aws4_request, SignedHeaders=host, Signature=0"
}

// cloudFormation asks LocalStack something of CloudFormation's query API.
func (r *rig) cloudFormation(action string, into any) error {
	form := url.Values{"Action": {action}, "StackName": {stackName}, "Version": {"2010-05-15"}}
	req, err := http.NewRequest("POST", r.edge, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", credential("cloudformation"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		return fmt.Errorf("%s: %d %s %w", action, resp.StatusCode, body, err)
	}
	if into == nil {
		return nil
	}
	return xml.Unmarshal(body, into)
}

// readOutputs learns what the stack is made of.
func (r *rig) readOutputs() {
	r.t.Helper()
	var answer struct {
		Outputs []struct {
			Key   string `xml:"OutputKey"`
			Value string `xml:"OutputValue"`
		} `xml:"DescribeStacksResult>Stacks>member>Outputs>member"`
	}
	if err := r.cloudFormation("DescribeStacks", &answer); err != nil {
		r.t.Fatal(err)
	}
	r.outputs = make(map[string]string)
	for _, o := range answer.Outputs {
		r.outputs[o.Key] = o.Value
	}
	r.collect, r.auth = r.front(r.outputs["CollectUrl"]), r.front(r.outputs["AuthUrl"])
	out, err := r.secrets.GetSecretValue(r.t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(r.outputs["ApiKeysSecret"])})
	if err != nil {
		r.t.Fatal(err)
	}
	var keys map[string]string
	if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &keys); err != nil || keys["default"] == "" {
		r.t.Fatalf("the API keys that were generated have no default one: %v", err)
	}
	r.apiKey = keys["default"]
}

// front gives a function URL an address on this machine: its own name resolves
// nowhere.
func (r *rig) front(functionURL string) *httptest.Server {
	r.t.Helper()
	u, err := url.Parse(functionURL)
	if err != nil || u.Host == "" {
		r.t.Fatalf("function URL %q: %v", functionURL, err)
	}
	edge, _ := url.Parse(r.edge)
	s := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(edge)
		p.Out.Host = u.Host
	}})
	r.t.Cleanup(s.Close)
	return s
}

// post sends body to a service and returns status and answer.
func (r *rig) post(base, path, key string, body any) (int, []byte) {
	r.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), "POST", base+path, bytes.NewReader(raw))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-API-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, answer
}

// send posts one message to a user and wants it accepted.
func (r *rig) send(user, text string, extra map[string]any) {
	r.t.Helper()
	m := map[string]any{"to": map[string]any{"users": []string{user}}, "data": text}
	for k, v := range extra {
		m[k] = v
	}
	if status, answer := r.post(r.collect.URL, "/v1/messages", r.apiKey, m); status != 202 {
		r.t.Fatalf("message %q is answered %d %s", text, status, answer)
	}
}

// startNode runs a push node in a container.
func (r *rig) startNode() *node {
	r.t.Helper()
	if r.metadata == nil {
		r.metadata = serveMetadata(r.whole, r.bridge)
	}
	id := r.answer("docker", "run", "-d", "--read-only", "--cap-drop", "ALL",
		"-e", "ECS_CONTAINER_METADATA_URI_V4="+r.metadata.URL+"/v4/task",
		"-e", "AUTH_URL=lambda://"+r.outputs["AuthFunction"],
		"-e", "REDIS_URL="+r.redisARN, "-e", "STORE_URL="+r.storeARN, "-e", "SIGNING_SECRETS="+r.outputs["SigningSecretArn"],
		"-e", "AWS_ENDPOINT_URL=http://"+r.bridge+":4566", "-e", "AWS_REGION="+region,
		"-e", "AWS_ACCESS_KEY_ID=test", "-e", "AWS_SECRET_ACCESS_KEY=test", "-e", "DRAIN_TIME=1s", "-e", "EMF_INTERVAL=60s",
		"pushnode:latest")
	n := &node{container: id}
	r.whole.Cleanup(func() { // it outlives the step that starts it
		if r.whole.Failed() {
			logs, _ := r.try("docker", "logs", "--tail", "40", id)
			r.t.Logf("node %.12s:\n%s", id, logs)
		}
		r.try("docker", "rm", "-f", id)
	})
	n.ip = r.answer("docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", id)
	r.until("the node is ready", func() bool {
		resp, err := http.Get("http://" + n.ip + ":8711/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	r.mu.Lock()
	r.nodes = append(r.nodes, n)
	r.mu.Unlock()
	return n
}

// serveMetadata serves the task metadata endpoint, version 4: whoever asks
// learns its own address, after an answer that is not complete yet.
func serveMetadata(t *testing.T, ip string) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	asked := make(map[string]bool)
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		mu.Lock()
		first := !asked[host]
		asked[host] = true
		mu.Unlock()
		if first {
			io.WriteString(w, `{"DockerId":"task","Networks":[{"NetworkMode":"awsvpc"}]}`)
			return
		}
		fmt.Fprintf(w, `{"DockerId":"task","Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":[%q]}]}`, host)
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return s
}
