package mongostore

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	tests := map[string]struct {
		uri  string
		want target
		err  string // part of the error
	}{
		"bare":           {uri: "mongodb://h", want: target{uri: "mongodb://h/", database: "pushcluster"}},
		"slash":          {uri: "mongodb://h:1/", want: target{uri: "mongodb://h:1/", database: "pushcluster"}},
		"database":       {uri: "mongodb://h/db", want: target{uri: "mongodb://h/db", database: "db"}},
		"escaped name":   {uri: "mongodb://h/d%62", want: target{uri: "mongodb://h/d%62", database: "db"}},
		"several hosts":  {uri: "mongodb://a:1,b:2/db?replicaSet=x", want: target{uri: "mongodb://a:1,b:2/db?replicaSet=x", database: "db"}},
		"srv":            {uri: "mongodb+srv://h/db", want: target{uri: "mongodb+srv://h/db", database: "db"}},
		"IPv6":           {uri: "mongodb://[::1]:27017/db", want: target{uri: "mongodb://[::1]:27017/db", database: "db"}},
		"our option":     {uri: "mongodb://h?maxUpdates=40", want: target{uri: "mongodb://h/", database: "pushcluster", maxUpdates: 40}},
		"among others":   {uri: "mongodb://h/db?a=1&maxupdates=7&b=2", want: target{uri: "mongodb://h/db?a=1&b=2", database: "db", maxUpdates: 7}},
		"credentials":    {uri: "mongodb://u:p%40@h/db", want: target{uri: "mongodb://u:p%40@h/db", database: "db", secrets: []string{"u", "u", "p%40", "p@"}}},
		"user alone":     {uri: "mongodb://u@h", want: target{uri: "mongodb://u@h/", database: "pushcluster", secrets: []string{"u", "u"}}},
		"other scheme":   {uri: "http://h", err: "mongodb://"},
		"no host":        {uri: "mongodb:///db", err: "no host"},
		"nested path":    {uri: "mongodb://h/a/b", err: "no name for a database"},
		"bad number":     {uri: "mongodb://h?maxUpdates=0", err: "maxUpdates"},
		"colon in it":    {uri: "mongodb://u:p:q@h", err: "percent-encoded"},
		"bad escape":     {uri: "mongodb://u:p%zz@h", err: "percent-encoded"},
		"question in it": {uri: "mongodb://u:p?q@h/db", err: "percent-encoded"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseURI(tt.uri)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("parseURI(%q) = %+v, %v; want an error with %q", tt.uri, got, err, tt.err)
				}
				return
			}
			if err != nil || got.uri != tt.want.uri || got.database != tt.want.database || got.maxUpdates != tt.want.maxUpdates ||
				!slices.Equal(got.secrets, tt.want.secrets) {
				t.Errorf("parseURI(%q) = %+v, %v; want %+v", tt.uri, got, err, tt.want)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	parsed, err := parseURI("mongodb://ann:p%40ss@h/db")
	if err != nil {
		t.Fatal(err)
	}
	got := parsed.redact(errors.New(`failed to parse "ann:p%40ss@h", that is ann and p@ss`)).Error()
	if want := `failed to parse "…:…@h", that is … and …`; got != want {
		t.Errorf("redacted to %q, want %q", got, want)
	}
}

func FuzzParseURI(f *testing.F) {
	for _, uri := range []string{
		"mongodb://h", "mongodb+srv://u:p%40@h/db?maxUpdates=40&a=b", "mongodb://a:1,b:2/", "mongodb://[::1]/db", "mongodb://u:s3cretpw?@h", "x",
	} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		got, err := parseURI(uri)
		if err != nil {
			return
		}
		if got.database == "" {
			t.Errorf("parseURI(%q) names no database", uri)
		}
		again, err := parseURI(got.uri)
		if err != nil || again.database != got.database || again.uri != got.uri || again.maxUpdates != 0 && again.maxUpdates != got.maxUpdates {
			t.Errorf("parseURI(%q) = %+v, which parses as %+v, %v", uri, got, again, err)
		}
	})
}
