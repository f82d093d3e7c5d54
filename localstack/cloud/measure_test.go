//go:build localstack

package cloud

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// A report is what Lambda writes into the log for one event, in milliseconds.
type report struct {
	took, billed, init float64
}

var reportLine = regexp.MustCompile(`REPORT RequestId: \S+\tDuration: ([0-9.]+) ms\tBilled Duration: ([0-9]+) ms\t[^\n]*?(?:\tInit Duration: ([0-9.]+) ms)?(?:\n|$)`)

// reports returns the reports in a log.
func reports(log string) []report {
	var found []report
	for _, m := range reportLine.FindAllStringSubmatch(log, -1) {
		var r report
		r.took, _ = strconv.ParseFloat(m[1], 64)
		r.billed, _ = strconv.ParseFloat(m[2], 64)
		r.init, _ = strconv.ParseFloat(m[3], 64)
		found = append(found, r)
	}
	return found
}

// measure prints what docs/cost.md tells: how long each function takes when it
// is started for an event and when it is not, and what messages are billed.
func (r *rig) measure() {
	for _, name := range []string{"Auth", "Collect", "Dispatch"} {
		r.measureOne(name)
	}
	r.measureMessages(200)
}

// measureOne invokes a function with its sample event, first in an environment
// that is made for it.
func (r *rig) measureOne(name string) {
	r.t.Helper()
	function := aws.String(r.outputs[name+"Function"])
	event, err := os.ReadFile(filepath.Join(r.root, "functions", strings.ToLower(name), "testdata/event.json"))
	if err != nil {
		r.t.Fatal(err)
	}
	event = []byte(strings.ReplaceAll(string(event), "local-key", r.apiKey))
	if _, err := r.lambda.UpdateFunctionConfiguration(r.t.Context(), &lambda.UpdateFunctionConfigurationInput{
		FunctionName: function, Description: aws.String("made anew to be measured")}); err != nil {
		r.t.Fatal(err)
	}
	r.settled(*function)
	var cold report
	var warm, round []float64
	for i := range 31 {
		began := time.Now()
		out, err := r.lambda.Invoke(r.t.Context(), &lambda.InvokeInput{FunctionName: function, Payload: event, LogType: lambdatypes.LogTypeTail})
		took := float64(time.Since(began).Microseconds()) / 1000
		if err != nil || out.FunctionError != nil {
			r.t.Fatalf("%s: %v %s %s", name, err, aws.ToString(out.FunctionError), out.Payload)
		}
		log, _ := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
		found := reports(string(log))
		if len(found) != 1 {
			r.t.Fatalf("%s: %d reports in its log, want one: %s", name, len(found), log)
		}
		if i == 0 {
			cold = found[0]
			continue
		}
		warm, round = append(warm, found[0].took), append(round, took)
	}
	if cold.init == 0 {
		r.t.Errorf("%s was not started for its first event", name)
	}
	slices.Sort(warm)
	slices.Sort(round)
	say("measured: %s starts in %.1f ms, its first event takes %.1f ms; warm, an event takes %.1f ms (median; slowest of %d %.1f ms), with LocalStack %.1f ms",
		name, cold.init, cold.took, warm[len(warm)/2], len(warm), warm[len(warm)-1], round[len(round)/2])
}

// measureMessages sends messages one after the other, and adds up what Collect
// and Dispatch are billed for them.
func (r *rig) measureMessages(messages int) {
	r.t.Helper()
	p := r.person("50", "http://"+r.nodes[1].ip+":8711")
	send := func(phase string, n int) {
		for i := range n {
			r.send("50", fmt.Sprintf("%s %d", phase, i), nil)
		}
		r.untilAll(p, phase+" %d", n)
	}
	send("warming", 5)
	began := time.Now()
	send("measured", messages)
	took := time.Since(began)
	total := 0.0
	for _, name := range []string{"Collect", "Dispatch"} {
		var events, billed float64
		// The log is written behind the answers: it is whole when nothing has
		// come for 2 s.
		for still := time.Now(); time.Since(still) < 2*time.Second; {
			before := events
			events, billed = 0, 0
			for _, line := range r.logLines("/aws/lambda/"+r.outputs[name+"Function"], began) {
				for _, found := range reports(line) {
					events++
					billed += found.billed
				}
			}
			if events != before {
				still = time.Now()
			}
		}
		if name == "Collect" && int(events) != messages {
			r.t.Errorf("Collect reports %.0f events, want one for each of %d messages", events, messages)
		}
		total += billed
		say("measured: %d messages are %.0f events of %s, billed %.0f ms: %.0f ms for 1,000 messages", messages, events, name, billed, billed*1000/float64(messages))
	}
	say("measured: 1,000 messages are billed %.0f ms of functions; %d came within %.1f s", total*1000/float64(messages), messages, took.Seconds())
}

// logLines returns what a log group got since then.
func (r *rig) logLines(group string, since time.Time) []string {
	r.t.Helper()
	var lines []string
	for next := ""; ; {
		ask := map[string]any{"logGroupName": group, "startTime": since.UnixMilli()}
		if next != "" {
			ask["nextToken"] = next
		}
		raw, err := json.Marshal(ask)
		if err != nil {
			r.t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(r.t.Context(), "POST", r.edge, strings.NewReader(string(raw)))
		if err != nil {
			r.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-amz-json-1.1")
		req.Header.Set("X-Amz-Target", "Logs_20140328.FilterLogEvents")
		req.Header.Set("Authorization", credential("logs"))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			r.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var answer struct {
			Events    []struct{ Message string }
			NextToken string
		}
		if err != nil || resp.StatusCode != 200 || json.Unmarshal(body, &answer) != nil {
			r.t.Fatalf("the log of %s: %d %s %v", group, resp.StatusCode, body, err)
		}
		for _, e := range answer.Events {
			lines = append(lines, e.Message)
		}
		if next = answer.NextToken; next == "" {
			return lines
		}
	}
}
