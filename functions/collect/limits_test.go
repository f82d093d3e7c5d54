package main

import (
	"strings"
	"testing"

	"pushcluster/shared/serve"
)

// TestConfigOfLimits reads the variables that say who may send how often, and
// from where.
func TestConfigOfLimits(t *testing.T) {
	tests := map[string]struct{ variable, value, want string }{ // want: part of the error, "" none
		"none":               {"API_LIMITS", "", ""},
		"of a key":           {"API_LIMITS", "shop:100/s:200,*:10/s", ""},
		"of nobody":          {"API_LIMITS", "till:100/s", `API_LIMITS: no API key is named "till"`},
		"not a rate":         {"API_LIMITS", "shop:100", `API_LIMITS: limit 1: a rate is a number`},
		"Redis":              {"REDIS_URL", "redis+cluster://a,b", ""},
		"not Redis":          {"REDIS_URL", "http://:sesame@a", `REDIS_URL: redis url: scheme "http"`},
		"proxies":            {"TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::/32", ""},
		"not of the network": {"TRUSTED_PROXIES", "10.0.0.1/8", "TRUSTED_PROXIES: entry 1 is not the beginning of a network; the network is 10.0.0.0/8"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			environment := map[string]string{"STORE_URL": "sqlite:x", "DISPATCH_URL": "http://127.0.0.1:1",
				"API_KEYS": "shop:sesame", "SIGNING_SECRETS": "a signing secret for the tests", tt.variable: tt.value}
			_, err := serve.Load[Config](t.Context(), func(name string) string { return environment[name] })
			if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "sesame")) {
				t.Errorf("%s=%s: %v, want %q", tt.variable, tt.value, err, tt.want)
			}
		})
	}
}
