package main

import (
	"strings"
	"testing"

	"pushcluster/shared/serve"
)

func TestConfig(t *testing.T) {
	good := map[string]string{
		"AUTH_URL": "http://127.0.0.1:8701", "REDIS_URL": "redis://127.0.0.1:6379/0", "STORE_URL": "sqlite:store.db",
		"SIGNING_SECRETS": "a-signing-secret-of-the-test-01234567",
	}
	tests := map[string]struct {
		env  map[string]string // beside what is good
		want []string          // the variables that the error names, one a line; none: no error
	}{
		"smallest": {nil, nil},
		"all that is optional": {map[string]string{"NODE_ADDR": "10.0.0.9", "ORIGINS": "https://a.example, https://b.example/",
			"DRAIN_TIME": "60s", "PING_INTERVAL": "1s", "MAX_CONNECTIONS": "1000", "EMF_INTERVAL": "60s",
			"DISPATCH_RPC_URL": "http://127.0.0.1:8703", "SOCKETS": "goroutine"}, nil},
		"Dispatch as functions ask it, and no SQLite": {map[string]string{"STORE_URL": "mongodb://127.0.0.1/x", "DISPATCH_RPC_URL": "lambda://d"}, nil},
		"everything bad": {map[string]string{
			"LISTEN": "8711", "INTERNAL_LISTEN": ":notaport", "AUTH_URL": "127.0.0.1:8701", "REDIS_URL": "http://:sesame@h",
			"STORE_URL": "postgres://ann:sesame@h", "SIGNING_SECRETS": "sesame", "ORIGINS": "a.example", "NODE_ADDR": "host:notaport",
			"DRAIN_TIME": "-1s", "PING_INTERVAL": "500ms", "MAX_CONNECTIONS": "-1", "EMF_INTERVAL": "1ms", "SOCKETS": "select", "LOG_LEVEL": "loud"},
			[]string{"LISTEN", "INTERNAL_LISTEN", "AUTH_URL", "REDIS_URL", "STORE_URL", "SIGNING_SECRETS", "ORIGINS", "NODE_ADDR",
				"DRAIN_TIME", "PING_INTERVAL", "MAX_CONNECTIONS", "EMF_INTERVAL", "SOCKETS", "LOG_LEVEL"}},
		"nothing set": {map[string]string{"AUTH_URL": "", "REDIS_URL": "", "STORE_URL": "", "SIGNING_SECRETS": ""},
			[]string{"AUTH_URL", "REDIS_URL", "STORE_URL", "SIGNING_SECRETS"}},
		"pings before":                {map[string]string{"PING_INTERVAL": "-5s"}, []string{"PING_INTERVAL"}},
		"pings once a day":            {map[string]string{"PING_INTERVAL": "24h"}, []string{"PING_INTERVAL"}},
		"no time to drain":            {map[string]string{"DRAIN_TIME": "0s"}, []string{"DRAIN_TIME"}},
		"figures before":              {map[string]string{"EMF_INTERVAL": "-1s"}, []string{"EMF_INTERVAL"}},
		"Auth and a query":            {map[string]string{"AUTH_URL": "http://127.0.0.1:8701?a=b"}, []string{"AUTH_URL"}},
		"Auth and an empty query":     {map[string]string{"AUTH_URL": "http://127.0.0.1:8701?"}, []string{"AUTH_URL"}},
		"Auth and a fragment":         {map[string]string{"AUTH_URL": "http://127.0.0.1:8701/#a"}, []string{"AUTH_URL"}},
		"Dispatch and a query":        {map[string]string{"DISPATCH_RPC_URL": "http://127.0.0.1:8703?a=b"}, []string{"DISPATCH_RPC_URL"}},
		"Auth and Dispatch below":     {map[string]string{"AUTH_URL": "http://127.0.0.1:80/auth/", "DISPATCH_RPC_URL": "https://[::1]/d"}, nil},
		"cursors through no Dispatch": {map[string]string{"DISPATCH_RPC_URL": "lambda://d"}, []string{"DISPATCH_RPC_URL"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg, err := serve.Load[Config](t.Context(), func(name string) string {
				if value, ok := tt.env[name]; ok {
					return value
				}
				return good[name]
			})
			if tt.want == nil {
				if err != nil {
					t.Errorf("Load = %+v, %v", cfg, err)
				}
				return
			}
			if err == nil {
				t.Fatalf("Load = %+v, want errors about %q", cfg, tt.want)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Errorf("errors:\n%v\nare %d, want %d", err, len(lines), len(tt.want))
			}
			for _, want := range tt.want {
				if !strings.Contains("\n"+err.Error(), "\n"+want+": ") {
					t.Errorf("errors:\n%v\nlack %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("errors tell a secret: %v", err)
			}
		})
	}
}
