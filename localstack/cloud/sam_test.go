//go:build localstack

package cloud

import (
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// TestSamLocalInvoke runs each function once with its sample event, in a
// container, on a real Redis and FerretDB. Only the answer counts: sam ends the
// container a second after it, whether or not the lines of its log were read.
func TestSamLocalInvoke(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, whole: t, root: root, bridge: bridgeIP(t)}
	useDocker(t, root)
	_, redis, err := net.SplitHostPort(r.startRedis())
	if err != nil {
		t.Fatal(err)
	}
	mongo, err := url.Parse(r.startFerretDB())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ARCH", "x86_64")
	t.Setenv("SAM_CLI_TELEMETRY", "0")
	t.Setenv("AWS_DEFAULT_REGION", region)
	say("sam build")
	r.run(r.sam(), "build", "--build-in-source", "--parameter-overrides", "Architecture=x86_64")
	for function, want := range map[string]string{
		"Auth":     `"statusCode": 201`,
		"Collect":  `local/sample`,
		"Dispatch": `{"batchItemFailures": []}`,
	} {
		t.Run(function, func(t *testing.T) {
			say("sam local invoke of %s", function)
			r.t = t
			out := r.run("make", "-s", "sam-invoke", "F="+function, "SAM="+r.sam(), "HOST_ADDR="+r.bridge, "REDIS_PORT="+redis, "MONGO_PORT="+mongo.Port())
			if !strings.Contains(out, want) {
				t.Errorf("sam local invoke of %s prints, without %s:\n%s", function, want, out)
			}
		})
	}
}
