package secret

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// newSecretsManager starts a server that answers GetSecretValue as Secrets
// Manager does, from secrets by "id stage", and makes the AWS SDK ask it.
func newSecretsManager(t *testing.T, secrets map[string]string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		var in struct{ SecretId, VersionStage string }
		json.NewDecoder(r.Body).Decode(&in)
		if in.VersionStage == "" {
			in.VersionStage = "AWSCURRENT"
		}
		text, ok := secrets[in.SecretId+" "+in.VersionStage]
		switch {
		case r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue":
			http.Error(w, `{"__type":"UnknownOperationException"}`, 400)
		case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=tester/"):
			http.Error(w, `{"__type":"AccessDeniedException"}`, 400)
		case !ok:
			http.Error(w, `{"__type":"ResourceNotFoundException","message":"no such"}`, 400)
		default:
			json.NewEncoder(w).Encode(map[string]string{"ARN": in.SecretId, "SecretString": text})
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "tester")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "sesame")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
}

func TestResolveARN(t *testing.T) {
	const base = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
	newSecretsManager(t, map[string]string{
		base + "plain-AbCdEf AWSCURRENT":  "hush",
		base + "plain-AbCdEf AWSPREVIOUS": "hush of old",
		base + "keys-AbCdEf AWSCURRENT":   `{"shop":"one","till:2":"two"}`,
		base + "db-AbCdEf AWSCURRENT":     `{"url":"redis://h/0","port":6379}`,
		base + "broken-AbCdEf AWSCURRENT": `{"sesame"`,
		base + "empty-AbCdEf AWSCURRENT":  ``,
	})
	tests := map[string]struct{ value, want, err string }{
		"plain":              {base + "plain-AbCdEf", "hush", ""},
		"stage":              {base + "plain-AbCdEf::AWSPREVIOUS", "hush of old", ""},
		"object as lines":    {base + "keys-AbCdEf", "shop:one\ntill:2:two", ""},
		"member":             {base + "keys-AbCdEf:shop", "one", ""},
		"member of none":     {base + "keys-AbCdEf:cellar", "", `no member "cellar"`},
		"not all strings":    {base + "db-AbCdEf", "", `"port" is no string`},
		"member among other": {base + "db-AbCdEf:url", "redis://h/0", ""},
		"member, a number":   {base + "db-AbCdEf:port", "6379", ""},
		"broken":             {base + "broken-AbCdEf", "", "not a JSON object"},
		"empty":              {base + "empty-AbCdEf", "", "is empty"},
		"missing":            {base + "missing-AbCdEf", "", "ResourceNotFoundException"},
		"other service":      {"arn:aws:ssm:eu-west-1:123456789012:parameter:x", "", "is not arn:aws:secretsmanager"},
		"too short":          {"arn:x", "", "is not arn:aws:secretsmanager"},
		"too long":           {base + "x:a:b:c", "", "no more"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := NewResolver(nil).Resolve(t.Context(), tt.value)
			if got != tt.want || (err == nil) != (tt.err == "") {
				t.Fatalf("Resolve(%q) = %q, %v, want %q, %q", tt.value, got, err, tt.want, tt.err)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "sesame")) {
				t.Errorf("Resolve(%q) says %q, want %q and nothing secret", tt.value, err, tt.err)
			}
		})
	}
	if _, err := NewResolver(nil).Resolve(t.Context(), "arn:x"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Resolve(arn:x) = %v, want ErrUnsupported", err)
	}
}

// FuzzMembers reads what a secret may hold: whatever it is, reading it does not
// panic and tells none of it.
func FuzzMembers(f *testing.F) {
	f.Add(`{"shop":"one","till":"two"}`, "till")
	f.Add(`{"a":{"b":"c"}}`, "a")
	f.Add(`{`, "")
	f.Add(`plain`, "")
	f.Fuzz(func(t *testing.T, text, key string) {
		found, err := pick(text, key)
		if err == nil && found == "" && key == "" {
			t.Fatalf("pick(%q, %q) found nothing and no error", text, key)
		}
	})
}
