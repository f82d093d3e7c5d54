package secret

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	getenv := func(k string) string { return map[string]string{"SET": "env:OTHER"}[k] }
	tests := map[string]struct {
		value, want string
		wantErr     string
	}{
		"literal":          {"mongodb://u:p@h/db", "mongodb://u:p@h/db", ""},
		"empty":            {"", "", ""},
		"env, not twice":   {"env:SET", "env:OTHER", ""},
		"env not set":      {"env:UNSET", "", `"UNSET" is not set`},
		"file":             {file("a", "value\n"), "value", ""},
		"file, CRLF":       {file("b", "value\r\n"), "value", ""},
		"file, no newline": {file("c", " value "), " value ", ""},
		"file, two lines":  {file("d", "a\n\n"), "a\n", ""},
		"file empty":       {file("e", "\n"), "", "is empty"},
		"file too large":   {file("f", strings.Repeat("x", maxFile+1)), "", "larger than"},
		"file missing":     {"file:" + dir + "/nothing", "", "no such file"},
		"arn of elsewhere": {"arn:aws:ssm:eu-west-1:123456789012:parameter/x", "", "only looked for in Secrets Manager"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Resolve(t.Context(), tt.value, getenv)
			if got != tt.want || (err != nil) != (tt.wantErr != "") || (err != nil && !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("Resolve(%q) = %q, %v, want %q, %q", tt.value, got, err, tt.want, tt.wantErr)
			}
		})
	}
}

func TestParseList(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string
		err  string
	}{
		"none":     {"", nil, ""},
		"one":      {"sesame", []string{"sesame"}, ""},
		"commas":   {"a, b ,c", []string{"a", "b", "c"}, ""},
		"newlines": {"a\nb,\r\nc\n", []string{"a", "b", "c"}, ""},
		"gap":      {"sesame,,b", nil, "secret 2 is empty"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseList(tt.text)
			if strings.Join(got, "|") != strings.Join(tt.want, "|") || (err != nil) != (tt.err != "") {
				t.Fatalf("ParseList(%q) = %q, %v, want %q, %q", tt.text, []string(got), err, tt.want, tt.err)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "sesame")) {
				t.Errorf("ParseList(%q) = %v, want %q and no secret", tt.text, err, tt.err)
			}
		})
	}
}

func TestParseKeys(t *testing.T) {
	tests := map[string]struct {
		text, err string
	}{
		"none":               {"", ""},
		"rotation":           {"shop:sesame,shop:sesame2,crm:x", ""},
		"colon in secret":    {"shop:a:b", ""},
		"twice the same":     {"shop:sesame,shop:sesame", ""},
		"no colon":           {"sesame", "key 1 is not of the form name:secret"},
		"no name":            {":sesame", "name, before the colon, is empty"},
		"no secret":          {"a:b,shop:", "key 2 (shop) has no secret"},
		"slash in name":      {"shop/1:sesame", "outside A-Z"},
		"secret for name":    {"s3same!:shop", "outside A-Z"},
		"long name":          {strings.Repeat("n", 65) + ":sesame", "longer than 64"},
		"one secret, twice":  {"shop:sesame,crm:sesame", `"shop" and "crm" have the same secret`},
		"space in a secret":  {"shop:ses ame", "has space"},
		"empty between":      {"shop:a,,crm:b", "key 2 is not of the form"},
		"trailing separator": {"shop:a,\ncrm:b,\n", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			keys, err := ParseKeys(tt.text)
			if (err != nil) != (tt.err != "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("ParseKeys(%q) = %v, %v, want error %q", tt.text, keys, err, tt.err)
			}
			if err != nil && (strings.Contains(err.Error(), "same,") || strings.Contains(err.Error(), "sesame")) {
				t.Errorf("ParseKeys(%q) tells a secret: %v", tt.text, err)
			}
		})
	}
}

func TestHolder(t *testing.T) {
	keys, err := ParseKeys("shop:one,shop:two,crm:three")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		header http.Header
		want   string // "" if nobody
	}{
		"X-API-Key":            {http.Header{"X-Api-Key": {"one"}}, "shop"},
		"rotated":              {http.Header{"X-Api-Key": {"two"}}, "shop"},
		"bearer":               {http.Header{"Authorization": {"Bearer three"}}, "crm"},
		"bearer, lower":        {http.Header{"Authorization": {"bearer three"}}, "crm"},
		"basic":                {http.Header{"Authorization": {"Basic three"}}, ""},
		"wrong":                {http.Header{"X-Api-Key": {"four"}}, ""},
		"prefix":               {http.Header{"X-Api-Key": {"thre"}}, ""},
		"none":                 {http.Header{}, ""},
		"empty":                {http.Header{"X-Api-Key": {""}, "Authorization": {"Bearer "}}, ""},
		"X-API-Key goes first": {http.Header{"X-Api-Key": {"four"}, "Authorization": {"Bearer three"}}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, ok := keys.Holder(tt.header); got != tt.want || ok != (tt.want != "") {
				t.Errorf("Holder(%v) = %q, %v, want %q", tt.header, got, ok, tt.want)
			}
		})
	}
	if name, ok := (Keys{}).Holder(http.Header{"X-Api-Key": {"one"}}); ok {
		t.Errorf("the zero Keys takes a key as %q", name)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	keys, _ := ParseKeys("shop:sesame")
	list, _ := ParseList("sesame")
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format+format, keys, list); strings.Contains(s, "sesame") {
			t.Errorf("%s prints %s", format, s)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	for _, s := range []string{"shop:a,crm:b", "a:b:c", ":x", "a:", ",,", "a:b\n\nc:d", "\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseKeys(text)
		if err != nil {
			return
		}
		for _, pair := range split(text) {
			name, value, _ := strings.Cut(pair, ":")
			if got, ok := keys.Name(value); !ok || got != name {
				t.Fatalf("ParseKeys(%q): %q is %q's, found %q, %v", text, value, name, got, ok)
			}
		}
	})
}
