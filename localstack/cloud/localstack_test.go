//go:build localstack

package cloud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/centrifugal/centrifuge-go"
)

// A person is the official Go SDK on one node, or on the balancer before all.
type person struct {
	client *centrifuge.Client
	mu     sync.Mutex // guards what follows
	got    map[string]int
}

func (r *rig) person(user, base string) *person {
	r.t.Helper()
	p := &person{got: make(map[string]int)}
	p.client = centrifuge.NewJsonClient(strings.Replace(base, "http", "ws", 1)+"/connection/websocket", centrifuge.Config{
		Data: []byte(`{"device":"laptop"}`), MinReconnectDelay: 50 * time.Millisecond, MaxReconnectDelay: time.Second,
		GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) { return r.token(user), nil },
		Token:    r.token(user),
	})
	p.client.OnPublication(func(e centrifuge.ServerPublicationEvent) {
		var text string
		json.Unmarshal(e.Data, &text)
		p.mu.Lock()
		p.got[text]++
		p.mu.Unlock()
	})
	connected := make(chan struct{}, 16)
	p.client.OnConnected(func(centrifuge.ConnectedEvent) {
		select {
		case connected <- struct{}{}:
		default:
		}
	})
	r.t.Cleanup(p.client.Close)
	if err := p.client.Connect(); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-connected:
	case <-time.After(patience):
		r.t.Fatalf("%s does not connect", user)
	}
	return p
}

func (p *person) has(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got[text] > 0
}

func (r *rig) token(user string) string {
	status, answer := r.post(r.auth.URL, "/v1/tokens", r.apiKey, map[string]string{"user": user})
	var minted struct{ Token string }
	if err := json.Unmarshal(answer, &minted); err != nil || status != 201 {
		r.t.Errorf("a token is answered %d %s", status, answer)
	}
	return minted.Token
}

// balancer sends each connection to a node that is there.
func (r *rig) balancer() *httptest.Server {
	s := httptest.NewServer(&httputil.ReverseProxy{
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(502) },
		Rewrite: func(p *httputil.ProxyRequest) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, n := range r.nodes {
				if !n.gone {
					p.SetURL(&url.URL{Scheme: "http", Host: n.ip + ":8711"})
					return
				}
			}
		}})
	r.t.Cleanup(s.Close)
	return s
}

// TestLocalStack deploys the cluster, breaks it in the ways that a deployment
// breaks, and takes it down. The steps stand on each other.
func TestLocalStack(t *testing.T) {
	r := newRig(t)
	say("sam build and the node's image")
	r.run(r.sam(), "build", "--build-in-source", "--parameter-overrides", "Architecture=x86_64")
	r.run("make", "-s", "node-image", "ARCH=x86_64")
	say("sam deploy")
	if err := r.deploy("INFO"); err != nil {
		t.Fatal(err)
	}
	r.readOutputs()
	say("starting two nodes")
	r.startNode()
	r.startNode()

	steps := []struct {
		name string
		do   func(*rig)
	}{
		{"a message reaches its user on either node", (*rig).deliver},
		{"the JavaScript SDK, through both nodes", (*rig).javaScript},
		{"a poisoned message ends in the dead-letter queue, and only it", (*rig).poison},
		{"Dispatch throttled delays and loses nothing", (*rig).throttle},
		{"Dispatch failing delays and loses nothing", (*rig).fail},
		{"a node killed loses nothing", (*rig).killNode},
		{"a new API key counts without a deployment", (*rig).rotate},
		{"a scheduled message is delivered by the sweep", (*rig).sweep},
		{"hand-offs by Lambda and by SQS are alike", (*rig).handOff},
		{"what is billed", (*rig).measure},
		{"a deployment under traffic loses nothing", (*rig).redeploy},
		{"nothing else was poisoned", (*rig).noDeadLetters},
		{"the stack deletes clean", (*rig).remove},
	}
	for _, s := range steps {
		began := time.Now()
		if !t.Run(s.name, func(t *testing.T) {
			outer := r.t
			r.t = t
			defer func() { r.t = outer }()
			s.do(r)
		}) {
			return
		}
		say("%s: %.1f s", s.name, time.Since(began).Seconds())
	}
}

func (r *rig) deliver() {
	for i, n := range r.nodes {
		p := r.person("42", "http://"+n.ip+":8711")
		text := fmt.Sprintf("to node %d", i)
		r.send("42", text, nil)
		r.until(text, func() bool { return p.has(text) })
	}
}

// javaScript runs the SDK test of the local stack against this one.
func (r *rig) javaScript() {
	facts := map[string]any{"page": "", "auth": r.auth.URL, "collect": r.collect.URL, "dispatch": "", "api_key": r.apiKey, "token": r.token("42")}
	var nodes []map[string]string
	for _, n := range r.nodes {
		nodes = append(nodes, map[string]string{"public": "http://" + n.ip + ":8711", "internal": "http://" + n.ip + ":8811"})
	}
	facts["nodes"] = nodes
	raw, err := json.Marshal(facts)
	if err != nil {
		r.t.Fatal(err)
	}
	file := filepath.Join(r.t.TempDir(), "stack.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("node", "--test", "sdk.test.mjs")
	cmd.Dir = filepath.Join(r.root, "localstack/e2e/js")
	cmd.Env = append(os.Environ(), "STACK_JSON="+file)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("the JavaScript SDK's test: %v\n%s", err, out)
	}
}

// depth returns how many items a queue holds: those that wait and those that
// somebody has taken and not deleted.
func (r *rig) depth(queue string) (waiting, taken int) {
	r.t.Helper()
	names := []types.QueueAttributeName{types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible}
	out, err := r.queues.GetQueueAttributes(r.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: aws.String(r.outputs[queue]), AttributeNames: names})
	if err != nil {
		r.t.Fatal(err)
	}
	var counts [2]int
	for i, name := range names {
		if counts[i], err = strconv.Atoi(out.Attributes[string(name)]); err != nil {
			r.t.Fatal(err)
		}
	}
	return counts[0], counts[1]
}

func (r *rig) poison() {
	p := r.person("43", "http://"+r.nodes[0].ip+":8711")
	// One batch: a good item, the poisoned one, a good one.
	if _, err := r.queues.SendMessage(r.t.Context(), &sqs.SendMessageInput{
		QueueUrl: aws.String(r.outputs["DispatchQueue"]), MessageBody: aws.String(`{"messages":"poison"}`)}); err != nil {
		r.t.Fatal(err)
	}
	r.send("43", "beside the poison", nil)
	r.until("what came beside the poison", func() bool { return p.has("beside the poison") })
	dead := aws.String(r.outputs["DispatchDeadLetterQueue"])
	r.within(3*time.Minute, "the poisoned item in the dead-letter queue", func() bool {
		waiting, _ := r.depth("DispatchDeadLetterQueue")
		return waiting == 1
	})
	out, err := r.queues.ReceiveMessage(r.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: dead, MaxNumberOfMessages: 10})
	if err != nil || len(out.Messages) != 1 || aws.ToString(out.Messages[0].Body) != `{"messages":"poison"}` {
		r.t.Fatalf("the dead-letter queue holds %d items (%v), want the poisoned one", len(out.Messages), err)
	}
	if _, err := r.queues.DeleteMessage(r.t.Context(), &sqs.DeleteMessageInput{QueueUrl: dead, ReceiptHandle: out.Messages[0].ReceiptHandle}); err != nil {
		r.t.Fatal(err)
	}
}

// noDeadLetters shows that of all that was sent, whatever was broken meanwhile,
// the poisoned item alone was given up.
func (r *rig) noDeadLetters() {
	if waiting, taken := r.depth("DispatchDeadLetterQueue"); waiting+taken > 0 {
		r.t.Errorf("the dead-letter queue holds %d items, want none", waiting+taken)
	}
	r.until("the queue is empty", func() bool {
		waiting, taken := r.depth("DispatchQueue")
		return waiting+taken == 0
	})
}

func (r *rig) throttle() {
	p := r.person("44", "http://"+r.nodes[1].ip+":8711")
	function := aws.String(r.outputs["DispatchFunction"])
	if _, err := r.lambda.PutFunctionConcurrency(r.t.Context(), &lambda.PutFunctionConcurrencyInput{
		FunctionName: function, ReservedConcurrentExecutions: aws.Int32(0)}); err != nil {
		r.t.Fatal(err)
	}
	for i := range 5 {
		r.send("44", fmt.Sprintf("throttled %d", i), nil)
	}
	if p.has("throttled 0") {
		r.t.Error("a message arrived although Dispatch may not run")
	}
	if _, err := r.lambda.DeleteFunctionConcurrency(r.t.Context(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: function}); err != nil {
		r.t.Fatal(err)
	}
	r.untilAll(p, "throttled %d", 5)
}

// untilAll waits until p has the n messages of those names.
func (r *rig) untilAll(p *person, name string, n int) {
	r.t.Helper()
	r.within(3*time.Minute, fmt.Sprintf("%d messages like %q", n, name), func() bool {
		for i := range n {
			if !p.has(fmt.Sprintf(name, i)) {
				return false
			}
		}
		return true
	})
}

// fail gives Dispatch a configuration with which it cannot start, as a bad
// deployment does, and repairs it when the queue has been refused.
func (r *rig) fail() {
	p := r.person("49", "http://"+r.nodes[1].ip+":8711")
	before := r.setEnvironment("SIGNING_SECRETS", "short")
	for i := range 5 {
		r.send("49", fmt.Sprintf("failed %d", i), nil)
	}
	r.until("Dispatch took what it cannot do", func() bool {
		_, taken := r.depth("DispatchQueue")
		return taken == 5
	})
	if p.has("failed 0") {
		r.t.Error("a message arrived although Dispatch cannot start")
	}
	r.setEnvironment("SIGNING_SECRETS", before)
	r.untilAll(p, "failed %d", 5)
}

// setEnvironment changes one variable of Dispatch and returns what it was.
func (r *rig) setEnvironment(name, value string) (before string) {
	r.t.Helper()
	function := aws.String(r.outputs["DispatchFunction"])
	now, err := r.lambda.GetFunctionConfiguration(r.t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: function})
	if err != nil {
		r.t.Fatal(err)
	}
	variables := now.Environment.Variables
	before = variables[name]
	variables[name] = value
	if _, err := r.lambda.UpdateFunctionConfiguration(r.t.Context(), &lambda.UpdateFunctionConfigurationInput{
		FunctionName: function, Environment: &lambdatypes.Environment{Variables: variables}}); err != nil {
		r.t.Fatal(err)
	}
	r.settled(*function)
	return before
}

// settled waits until a function's last change has come into effect.
func (r *rig) settled(function string) {
	r.t.Helper()
	r.until(function+" is active", func() bool {
		now, err := r.lambda.GetFunctionConfiguration(r.t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &function})
		if err != nil {
			r.t.Fatal(err)
		}
		return now.State == lambdatypes.StateActive && now.LastUpdateStatus == lambdatypes.LastUpdateStatusSuccessful
	})
}

func (r *rig) killNode() {
	p := r.person("45", r.balancer().URL)
	r.send("45", "before", nil)
	r.until("the message before", func() bool { return p.has("before") })
	r.mu.Lock()
	dead := r.nodes[0]
	dead.gone = true
	r.mu.Unlock()
	r.run("docker", "kill", dead.container)
	r.send("45", "after", nil)
	r.until("the message after", func() bool { return p.has("after") })
	r.startNode()
}

func (r *rig) rotate() {
	fresh := "a-key-that-was-not-there-before"
	if status, _ := r.post(r.collect.URL, "/v1/messages", fresh, map[string]any{}); status != 401 {
		r.t.Fatalf("an unknown key is answered %d, want 401", status)
	}
	text := fmt.Sprintf(`{"next":%q,"default":%q}`, fresh, r.apiKey)
	if _, err := r.secrets.PutSecretValue(r.t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String(r.outputs["ApiKeysSecret"]), SecretString: &text}); err != nil {
		r.t.Fatal(err)
	}
	r.within(100*time.Second, "the new key counts", func() bool {
		status, _ := r.post(r.collect.URL, "/v1/messages", fresh, map[string]any{"to": map[string]any{"users": []string{"46"}}, "data": 1})
		return status == 202
	})
}

func (r *rig) sweep() {
	p := r.person("47", "http://"+r.nodes[1].ip+":8711")
	r.send("47", "later", map[string]any{"deliver_at": time.Now().Add(3 * time.Second).UTC().Format(time.RFC3339)})
	r.within(130*time.Second, "the scheduled message", func() bool { return p.has("later") })
}

func (r *rig) redeploy() {
	p := r.person("48", "http://"+r.nodes[1].ip+":8711")
	deployed := make(chan error, 1)
	go func() { deployed <- r.deploy("DEBUG") }() // it changes every function
	sent := 0
	var err error
	for running := true; running; {
		select {
		case err = <-deployed:
			running = false
		default:
			// As a sender does: what is not accepted is sent again, under its id.
			id := fmt.Sprintf("redeploy-%d", sent)
			r.within(time.Minute, "a message is accepted", func() bool {
				status, _ := r.post(r.collect.URL, "/v1/messages", r.apiKey, map[string]any{
					"to": map[string]any{"users": []string{"48"}}, "data": id, "id": id})
				return status == 202
			})
			sent++
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.within(2*time.Minute, fmt.Sprintf("all %d messages", sent), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.got) == sent
	})
	for text, n := range p.got {
		if n != 1 {
			r.t.Errorf("%s came %d times", text, n)
		}
	}
	say("%d messages during the deployment, none lost", sent)
}

func (r *rig) remove() {
	if err := r.cloudFormation("DeleteStack", nil); err != nil {
		r.t.Fatal(err)
	}
	r.within(2*time.Minute, "the stack is gone", func() bool {
		var answer struct {
			Status string `xml:"DescribeStacksResult>Stacks>member>StackStatus"`
		}
		err := r.cloudFormation("DescribeStacks", &answer)
		if answer.Status == "DELETE_FAILED" {
			r.t.Fatal("the stack could not be deleted")
		}
		return err != nil && strings.Contains(err.Error(), "does not exist")
	})
	functions, err := r.lambda.ListFunctions(r.t.Context(), &lambda.ListFunctionsInput{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range functions.Functions {
		if strings.HasPrefix(aws.ToString(f.FunctionName), stackName) {
			r.t.Errorf("function %s is left", aws.ToString(f.FunctionName))
		}
	}
}
