//go:build aws

package cloud

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A template is what CloudFormation makes of template.yaml: make aws-check
// writes it and names it in EXPANDED.
type template struct {
	Parameters map[string]struct {
		Default        any
		AllowedPattern string
	}
	Rules     map[string]any
	Mappings  map[string]map[string]map[string]float64
	Resources map[string]resource
}

type resource struct {
	Type       string
	Condition  string
	Metadata   map[string]any
	Properties map[string]any
}

func readTemplate(t *testing.T) template {
	t.Helper()
	raw, err := os.ReadFile(os.Getenv("EXPANDED"))
	if err != nil {
		t.Fatalf("run make aws-check, which expands the template: %v", err)
	}
	var tpl template
	if err := json.Unmarshal(raw, &tpl); err != nil {
		t.Fatal(err)
	}
	return tpl
}

// of returns the resources of one type, by name.
func (tpl template) of(kind string) map[string]resource {
	found := make(map[string]resource)
	for name, r := range tpl.Resources {
		if r.Type == kind {
			found[name] = r
		}
	}
	return found
}

// show writes a value down as JSON, with its references in it.
func show(v any) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}

func list(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	if v == nil {
		return nil
	}
	return []any{v}
}

// A statement is one of a role's policies, whatever condition it is under.
type statement struct {
	role, sid string
	actions   []string
	resources []string
}

func (tpl template) statements(t *testing.T) []statement {
	t.Helper()
	var all []statement
	for name, r := range tpl.of("AWS::IAM::Role") {
		if r.Properties["ManagedPolicyArns"] != nil {
			t.Errorf("%s has managed policies %s; write out what it may", name, show(r.Properties["ManagedPolicyArns"]))
		}
		for _, p := range list(r.Properties["Policies"]) {
			for _, s := range list(p.(map[string]any)["PolicyDocument"].(map[string]any)["Statement"]) {
				m := s.(map[string]any)
				if branch, ok := m["Fn::If"].([]any); ok {
					m = branch[1].(map[string]any)
				}
				st := statement{role: name, sid: fmt.Sprint(m["Sid"])}
				for _, a := range list(m["Action"]) {
					st.actions = append(st.actions, a.(string))
				}
				for _, r := range list(m["Resource"]) {
					st.resources = append(st.resources, show(r))
				}
				all = append(all, st)
			}
		}
	}
	return all
}

func TestTemplateFunctionsHaveRolesOfTheirOwn(t *testing.T) {
	tpl := readTemplate(t)
	functions := tpl.of("AWS::Lambda::Function")
	if len(functions) != 3 {
		t.Fatalf("%d functions, want 3", len(functions))
	}
	roles := make(map[string]string)
	for name, f := range functions {
		role := show(f.Properties["Role"])
		if other, ok := roles[role]; ok {
			t.Errorf("%s and %s share the role %s", name, other, role)
		}
		roles[role] = name
		if !strings.Contains(role, strings.TrimSuffix(name, "Function")+"Role") {
			t.Errorf("%s has the role %s", name, role)
		}
		if show(f.Properties["LoggingConfig"].(map[string]any)["LogFormat"]) != `"JSON"` || f.Properties["Timeout"] == nil {
			t.Errorf("%s has no JSON log or no timeout of its own", name)
		}
	}
	if got, want := len(tpl.of("AWS::IAM::Role")), 5; got != want {
		t.Errorf("%d roles, want %d: three functions, the node's task and its start", got, want)
	}
	for name, g := range tpl.of("AWS::Logs::LogGroup") {
		if g.Properties["RetentionInDays"] == nil {
			t.Errorf("log group %s is kept for ever", name)
		}
	}
}

func TestTemplateGivesNobodyMore(t *testing.T) {
	tpl := readTemplate(t)
	for _, s := range tpl.statements(t) {
		reasons, _ := tpl.Resources[s.role].Metadata["WildcardReasons"].(map[string]any)
		wild := slices.ContainsFunc(append(slices.Clone(s.actions), s.resources...), func(x string) bool { return strings.Contains(x, "*") })
		if wild && fmt.Sprint(reasons[s.sid]) == "<nil>" {
			t.Errorf("%s, statement %s, has a wildcard without a written reason: %v on %v", s.role, s.sid, s.actions, s.resources)
		}
		for _, a := range s.actions {
			if strings.Contains(a, "*") {
				t.Errorf("%s, statement %s, allows %s; name the actions", s.role, s.sid, a)
			}
		}
	}
	// Who may do what, as a whole: an action that is new here wants a thought.
	allowed := map[string][]string{
		"AuthRole":     {"logs", "secretsmanager", "kms:Decrypt", "ec2"},
		"CollectRole":  {"logs", "secretsmanager", "kms:Decrypt", "sqs:SendMessage", "sqs:GetQueueUrl", "lambda:InvokeFunction", "ec2"},
		"DispatchRole": {"logs", "secretsmanager", "kms:Decrypt", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "ec2"},
		"NodeRole":     {"secretsmanager", "kms:Decrypt", "lambda:InvokeFunction"},
	}
	for _, s := range tpl.statements(t) {
		for _, a := range s.actions {
			service, _, _ := strings.Cut(a, ":")
			if may, ok := allowed[s.role]; ok && !slices.Contains(may, a) && !slices.Contains(may, service) {
				t.Errorf("%s may %s", s.role, a)
			}
		}
	}
	if got := show(tpl.Resources["NodeRole"].Properties); !strings.Contains(got, `{"Action":"lambda:InvokeFunction","Effect":"Allow","Resource":{"Fn::GetAtt":["AuthFunction","Arn"]}`) {
		t.Errorf("nodes do not invoke Auth alone: %s", got)
	}
}

func TestTemplateQueue(t *testing.T) {
	tpl := readTemplate(t)
	queue := tpl.Resources["DispatchQueue"].Properties
	if got, want := show(queue["VisibilityTimeout"]), `{"Fn::FindInMap":["Visibility",{"Ref":"DispatchTimeout"},"Seconds"]}`; got != want {
		t.Errorf("the queue hides items for %s, want %s", got, want)
	}
	if got, want := show(tpl.Resources["DispatchFunction"].Properties["Timeout"]), `{"Ref":"DispatchTimeout"}`; got != want {
		t.Errorf("Dispatch's timeout is %s, want %s", got, want)
	}
	for timeout, row := range tpl.Mappings["Visibility"] {
		var seconds float64
		fmt.Sscan(timeout, &seconds)
		if row["Seconds"] < 6*seconds {
			t.Errorf("with a timeout of %s s the queue hides items for %v s, less than six times as long", timeout, row["Seconds"])
		}
	}
	redrive := queue["RedrivePolicy"].(map[string]any)
	if show(redrive["deadLetterTargetArn"]) != `{"Fn::GetAtt":["DispatchDeadLetterQueue","Arn"]}` || redrive["maxReceiveCount"].(float64) < 5 {
		t.Errorf("the dead-letter queue is wired as %s", show(redrive))
	}
	source := tpl.Resources["DispatchFunctionQueue"].Properties
	if show(source["FunctionResponseTypes"]) != `["ReportBatchItemFailures"]` || show(source["EventSourceArn"]) != `{"Fn::GetAtt":["DispatchQueue","Arn"]}` ||
		source["BatchSize"].(float64) != 10 || source["MaximumBatchingWindowInSeconds"] != nil {
		t.Errorf("the event source is %s", show(source))
	}
	if got := show(tpl.Resources["DispatchFunctionSweep"].Properties["ScheduleExpression"]); got != `"rate(1 minute)"` {
		t.Errorf("the sweep runs at %s", got)
	}
	if got := show(tpl.Resources["CollectFunctionCallbacks"].Properties["ScheduleExpression"]); got != `"rate(1 minute)"` {
		t.Errorf("callbacks are told at %s", got)
	}
	// Lambda takes a schedule's event as one to be repeated, unless it is told.
	for _, name := range []string{"CollectFunctionEventInvokeConfig", "DispatchFunctionEventInvokeConfig"} {
		once := tpl.Resources[name].Properties
		if once["MaximumRetryAttempts"] != 0.0 || once["MaximumEventAgeInSeconds"] != 60.0 {
			t.Errorf("a schedule's event that fails is repeated as %s is: %s", name, show(once))
		}
	}
}

// TestTemplateInternalPort shows that of everything only Dispatch, and the
// operator's own scraper, reach the port that nodes take orders on.
func TestTemplateInternalPort(t *testing.T) {
	tpl := readTemplate(t)
	var internal, public []string
	for name, in := range tpl.of("AWS::EC2::SecurityGroupIngress") {
		from, to := in.Properties["FromPort"].(float64), in.Properties["ToPort"].(float64)
		if in.Properties["CidrIp"] != nil {
			t.Errorf("%s lets addresses in, not a group", name)
		}
		source := show(in.Properties["SourceSecurityGroupId"])
		if from <= 8811 && 8811 <= to {
			internal = append(internal, source)
		}
		if from <= 8711 && 8711 <= to {
			public = append(public, source)
		}
	}
	slices.Sort(internal)
	if got, want := strings.Join(internal, " "), `{"Fn::GetAtt":["DispatchSecurityGroup","GroupId"]} {"Ref":"MetricsSecurityGroup"}`; got != want {
		t.Errorf("the internal port is open to %s, want %s", got, want)
	}
	if got, want := strings.Join(public, " "), `{"Fn::GetAtt":["BalancerSecurityGroup","GroupId"]}`; got != want {
		t.Errorf("the public port is open to %s, want %s", got, want)
	}
	if tpl.Resources["NodeSecurityGroup"].Properties["SecurityGroupIngress"] != nil {
		t.Error("the nodes' group has rules of its own besides")
	}
	for name, f := range tpl.of("AWS::Lambda::Function") {
		hasIt := strings.Contains(show(f.Properties["VpcConfig"]), "DispatchSecurityGroup")
		if hasIt != (name == "DispatchFunction") {
			t.Errorf("%s is in Dispatch's group: %v", name, hasIt)
		}
	}
	if strings.Contains(show(tpl.Resources["NodeTargets"].Properties), "8811") {
		t.Error("the balancer knows the internal port")
	}
}

func TestTemplateNodes(t *testing.T) {
	tpl := readTemplate(t)
	container := list(tpl.Resources["NodeTask"].Properties["ContainerDefinitions"])[0].(map[string]any)
	if container["ReadonlyRootFilesystem"] != true || container["StopTimeout"].(float64) != 120 || container["Ulimits"] == nil {
		t.Errorf("the node's container is %s", show(container))
	}
	for name, want := range map[string]string{"deregistration_delay.timeout_seconds": "20", "idle_timeout.timeout_seconds": "180"} {
		all := show(tpl.Resources["NodeTargets"].Properties["TargetGroupAttributes"]) + show(tpl.Resources["Balancer"].Properties["LoadBalancerAttributes"])
		if !strings.Contains(all, fmt.Sprintf(`{"Key":%q,"Value":%q}`, name, want)) {
			t.Errorf("%s is not %s: %s", name, want, all)
		}
	}
	targets := tpl.Resources["NodeTargets"].Properties
	if away := targets["UnhealthyThresholdCount"].(float64) * targets["HealthCheckIntervalSeconds"].(float64); away < 60 {
		t.Errorf("ECS ends a node that was not ready for %v s, want a minute, in which Redis fails over", away)
	}
	deployment := show(tpl.Resources["NodeService"].Properties["DeploymentConfiguration"])
	for _, want := range []string{
		`"DeploymentCircuitBreaker":{"Enable":true,"Rollback":true}`, `"MinimumHealthyPercent":100`, `"MaximumPercent":{"Fn::If":["HasOneNode",200,150]}`,
	} {
		if !strings.Contains(deployment, want) {
			t.Errorf("deployments go by %s, want %s", deployment, want)
		}
	}
	for name, want := range map[string]string{"MAX_CONNECTIONS": "MaxConnections", "GOMEMLIMIT": "NodeMemoryLimit"} {
		if got := show(container["Environment"]); !strings.Contains(got, fmt.Sprintf(`{"Name":%q,"Value":{"Ref":%q}}`, name, want)) {
			t.Errorf("%s is not what %s says: %s", name, want, got)
		}
	}
	most, _ := tpl.Parameters["MaxConnections"].Default.(float64)
	if mean := tpl.Parameters["ConnectionsPerNode"].Default.(float64); most < 2*mean {
		t.Errorf("a node takes %v connections, too few for those of another one besides its own %v", most, mean)
	}
	for name, r := range tpl.Resources {
		if strings.HasPrefix(r.Type, "AWS::ECS::") || strings.HasPrefix(r.Type, "AWS::ElasticLoadBalancingV2::") {
			if r.Condition != "HasNodes" {
				t.Errorf("%s is deployed without nodes, too", name)
			}
		}
		if strings.HasPrefix(r.Type, "AWS::ApiGatewayV2::") && r.Condition != "IsHttpApi" {
			t.Errorf("%s is deployed without the HTTP API, too", name)
		}
	}
}

// TestTemplateNodesWantVpc shows that a deployment that would quietly make no
// nodes is refused.
func TestTemplateNodesWantVpc(t *testing.T) {
	rule := show(readTemplate(t).Rules["NodesHaveVpc"])
	for _, want := range []string{
		`"RuleCondition":{"Fn::Equals":[{"Ref":"DeployPushNodes"},"true"]}`, `"Assert":{"Fn::Not":[{"Fn::Equals":[{"Ref":"VpcId"},""]}]}`,
	} {
		if !strings.Contains(rule, want) {
			t.Errorf("the rule of nodes and VpcId is %s, want %s", rule, want)
		}
	}
}

// TestTemplateSecrets shows who may read which secret: nobody one that is not
// theirs.
func TestTemplateSecrets(t *testing.T) {
	tpl := readTemplate(t)
	want := map[string][]string{
		"AuthRole":     {"ApiKeys", "SigningSecret", "StoreUrlSecretArn", "TokenKeys"},
		"CollectRole":  {"ApiKeys", "RedisUrlSecretArn", "SigningSecret", "SourceSecretArns", "StoreUrlSecretArn"},
		"DispatchRole": {"RedisUrlSecretArn", "SigningSecret", "StoreUrlSecretArn"},
		"NodeRole":     {"RedisUrlSecretArn", "SigningSecret", "StoreUrlSecretArn"},
	}
	got := make(map[string][]string)
	for _, s := range tpl.statements(t) {
		if !slices.Contains(s.actions, "secretsmanager:GetSecretValue") {
			continue
		}
		for _, r := range s.resources {
			got[s.role] = append(got[s.role], strings.TrimRight(strings.TrimPrefix(strings.TrimPrefix(r, `{"Fn::Split":[",",`), `{"Ref":"`), `"]}`))
		}
		slices.Sort(got[s.role])
	}
	if show(got) != show(want) {
		t.Errorf("secrets are read by %s, want %s", show(got), show(want))
	}
	// Their values are read at run time, by ARN: none is in an environment.
	for name, f := range tpl.of("AWS::Lambda::Function") {
		if e := show(f.Properties["Environment"]); strings.Contains(e, "resolve:") {
			t.Errorf("%s has the value of a secret in its environment: %s", name, e)
		}
	}
}

// allowed returns the pattern that all of a parameter has to match.
func allowed(t *testing.T, parameter string) *regexp.Regexp {
	t.Helper()
	pattern, err := regexp.Compile("^(?:" + readTemplate(t).Parameters[parameter].AllowedPattern + ")$")
	if err != nil {
		t.Fatal(err)
	}
	return pattern
}

// TestTemplateSecretArns shows that an ARN is refused which a role could not be
// given, or with which it could read more than the one secret.
func TestTemplateSecretArns(t *testing.T) {
	const arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:push/redis-AbC123"
	tests := map[string]struct {
		arn  string
		good bool
	}{
		"whole":              {arn, true},
		"of another cloud":   {strings.Replace(arn, "aws", "aws-us-gov", 1), true},
		"a name":             {"push/redis", false},
		"without its end":    {strings.TrimSuffix(arn, "-AbC123"), false},
		"with a key":         {arn + ":url", false},
		"of all secrets":     {strings.Replace(arn, "push/redis-AbC123", "*", 1), false},
		"of several secrets": {strings.Replace(arn, "redis", "*", 1), false},
		"of another service": {strings.Replace(arn, "secretsmanager", "ssm", 1), false},
	}
	for _, parameter := range []string{"RedisUrlSecretArn", "StoreUrlSecretArn"} {
		pattern := allowed(t, parameter)
		for name, tt := range tests {
			if got := pattern.MatchString(tt.arn); got != tt.good {
				t.Errorf("%s: %s, %s, is taken: %v, want %v", parameter, name, tt.arn, got, tt.good)
			}
		}
	}
}

// TestTemplateSourceSecretArns shows that Collect is not given what IAM refuses in
// the middle of a deployment, nor every secret of an account.
func TestTemplateSourceSecretArns(t *testing.T) {
	const arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:webhooks/"
	pattern := allowed(t, "SourceSecretArns")
	tests := map[string]struct {
		arns string
		good bool
	}{
		"none":               {"", true},
		"one":                {arn + "github-AbC123", true},
		"all of a beginning": {arn + "*", true},
		"two":                {arn + "github-AbC123," + arn + "shop-??????", true},
		"with a space":       {arn + "a-AbC123, " + arn + "b-AbC123", false},
		"with no end":        {arn + "a-AbC123,", false},
		"of all secrets":     {strings.Replace(arn, "webhooks/", "*", 1), false},
		"everything":         {"*", false},
		"with a key":         {arn + "a-AbC123:url", false},
	}
	for name, tt := range tests {
		if got := pattern.MatchString(tt.arns); got != tt.good {
			t.Errorf("%s: %q is taken: %v, want %v", name, tt.arns, got, tt.good)
		}
	}
}

// TestTemplateSecretKeys shows that who reads secrets may decrypt those that were
// encrypted with keys of the operator's, through Secrets Manager alone.
func TestTemplateSecretKeys(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	tpl := readTemplate(t)
	want := `{"Fn::If":["HasSecretKeys",{"Action":"kms:Decrypt","Condition":{"StringLike":{"kms:ViaService":"secretsmanager.*.amazonaws.com*"}},` +
		`"Effect":"Allow","Resource":{"Fn::Split":[",",{"Ref":"SecretKeyArns"}]},"Sid":"SecretKeys"},{"Ref":"AWS::NoValue"}]}`
	for name, role := range tpl.of("AWS::IAM::Role") {
		policies := show(role.Properties["Policies"])
		if reads := strings.Contains(policies, "secretsmanager:GetSecretValue"); reads != strings.Contains(policies, want) {
			t.Errorf("%s reads secrets: %v; what it may decrypt is in %s, want %s", name, reads, policies, want)
		}
	}
	pattern := allowed(t, "SecretKeyArns")
	for arns, good := range map[string]bool{
		"": true, arn: true, arn + "," + arn: true,
		arn + ", " + arn: false, arn + ",": false, "*": false,
		"arn:aws:kms:eu-west-1:123456789012:key/*": false, "arn:aws:kms:eu-west-1:123456789012:alias/push": false,
	} {
		if got := pattern.MatchString(arns); got != good {
			t.Errorf("%q is taken: %v, want %v", arns, got, good)
		}
	}
}

// TestTemplateTokens shows that Auth is told whose tokens count.
func TestTemplateTokens(t *testing.T) {
	env := show(readTemplate(t).Resources["AuthFunction"].Properties["Environment"])
	for name, parameter := range map[string]string{"JWKS_URL": "JwksUrl", "TOKEN_ISSUER": "TokenIssuer", "TOKEN_AUDIENCE": "TokenAudience"} {
		if !strings.Contains(env, fmt.Sprintf(`%q:{"Ref":%q}`, name, parameter)) {
			t.Errorf("%s is not what %s says: %s", name, parameter, env)
		}
	}
	pattern := allowed(t, "JwksUrl")
	for url, good := range map[string]bool{"": true, "https://login.example/keys": true, "http://login.example/keys": false, "login.example": false} {
		if got := pattern.MatchString(url); got != good {
			t.Errorf("%q is taken: %v, want %v", url, got, good)
		}
	}
}

// TestTemplateFigures shows that what a stack writes is what its alarm, its scaling
// and its dashboard read, and that no other stack's figures are among it.
func TestTemplateFigures(t *testing.T) {
	const own = `{"Fn::Sub":"pushcluster/${AWS::StackName}"}`
	tpl := readTemplate(t)
	for name, f := range tpl.of("AWS::Lambda::Function") {
		if env := show(f.Properties["Environment"]); !strings.Contains(env, `"EMF_NAMESPACE":`+own) {
			t.Errorf("%s does not write to %s: %s", name, own, env)
		}
	}
	if env := show(tpl.Resources["NodeTask"].Properties["ContainerDefinitions"]); !strings.Contains(env, `{"Name":"EMF_NAMESPACE","Value":`+own+`}`) {
		t.Errorf("nodes do not write to %s: %s", own, env)
	}
	for _, reader := range []string{"LeaseAlarm", "NodeScalingPolicy"} {
		if got := show(tpl.Resources[reader].Properties); !strings.Contains(got, `"Namespace":`+own) {
			t.Errorf("%s does not read from %s: %s", reader, own, got)
		}
	}
	body := show(tpl.Resources["Dashboard"].Properties["DashboardBody"])
	if all, ours := strings.Count(body, `[\"pushcluster`), strings.Count(body, `[\"pushcluster/${AWS::StackName}\", `); all != ours || ours == 0 {
		t.Errorf("of %d figures on the dashboard %d are of this stack", all, ours)
	}
}

func TestTemplateAlarms(t *testing.T) {
	tpl := readTemplate(t)
	want := map[string]string{ // metric and what it is of
		"Errors AuthFunction": "AWS/Lambda", "Errors CollectFunction": "AWS/Lambda", "Errors DispatchFunction": "AWS/Lambda",
		"Throttles AuthFunction": "AWS/Lambda", "Throttles CollectFunction": "AWS/Lambda", "Throttles DispatchFunction": "AWS/Lambda",
		"Duration DispatchFunction":                                  "AWS/Lambda",
		"ApproximateNumberOfMessagesVisible DispatchDeadLetterQueue": "AWS/SQS",
		"ApproximateAgeOfOldestMessage DispatchQueue":                "AWS/SQS",
		"pushnode_lease_events_total_lost pushnode":                  "map[Fn::Sub:pushcluster/${AWS::StackName}]",
		"UnHealthyHostCount NodeTargets":                             "AWS/ApplicationELB",
	}
	got := make(map[string]string)
	for name, a := range tpl.of("AWS::CloudWatch::Alarm") {
		of := show(list(a.Properties["Dimensions"])[0].(map[string]any)["Value"])
		for _, cut := range []string{`{"Ref":"`, `{"Fn::GetAtt":["`, `"`} {
			of = strings.TrimPrefix(of, cut)
		}
		of, _, _ = strings.Cut(of, `"`)
		got[fmt.Sprint(a.Properties["MetricName"], " ", of)] = fmt.Sprint(a.Properties["Namespace"])
		if a.Properties["AlarmActions"] == nil || a.Properties["TreatMissingData"] != "notBreaching" {
			t.Errorf("%s tells nobody, or is raised where nothing happens", name)
		}
	}
	if show(got) != show(want) {
		t.Errorf("alarms watch %s, want %s", show(got), show(want))
	}
}

func TestTemplateHttpApi(t *testing.T) {
	tpl := readTemplate(t)
	stage, api := tpl.Resources["HttpApiStage"].Properties, tpl.Resources["HttpApi"].Properties
	if stage["AccessLogSettings"] == nil || !strings.Contains(show(stage["DefaultRouteSettings"]), `"ThrottlingRateLimit":{"Ref":"ThrottleRate"}`) {
		t.Errorf("the stage has no access log or no limit: %s", show(stage))
	}
	if cors := show(api["CorsConfiguration"]); strings.Contains(cors, `"*"`) || !strings.Contains(cors, `"AllowOrigins":{"Ref":"CorsOrigins"}`) {
		t.Errorf("pages of any origin may call the API: %s", cors)
	} else if !strings.Contains(cors, `"AllowMethods":["GET","POST","PUT","DELETE"]`) {
		t.Errorf("pages may not ask for all that Collect answers: %s", cors)
	}
	// Of Auth only the minting of tokens has a route; everything else is Collect's.
	var routes []string
	for _, r := range tpl.of("AWS::ApiGatewayV2::Route") {
		routes = append(routes, fmt.Sprint(r.Properties["RouteKey"], " ", show(r.Properties["Target"])))
	}
	slices.Sort(routes)
	if got, want := strings.Join(routes, "; "), `$default {"Fn::Sub":"integrations/${CollectIntegration}"}; POST /v1/tokens {"Fn::Sub":"integrations/${AuthIntegration}"}`; got != want {
		t.Errorf("the routes are %s, want %s", got, want)
	}
}
