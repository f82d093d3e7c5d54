//go:build linux

package main

import (
	"io"
	"strings"
	"testing"
)

func TestPlans(t *testing.T) {
	tests := map[string]struct {
		args  string
		plans int
		fails string
	}{
		"node":           {"-suite node -n 1000 -rounds 2", 1, ""},
		"scale":          {"-suite scale", 1, ""},
		"channels":       {"-suite channels", 1, ""},
		"peers":          {"-suite peers", 1, ""},
		"cluster":        {"-suite cluster", 1, ""},
		"picked":         {"-suite node -targets gepoll,node -only memory,recover", 1, ""},
		"a store":        {"-suite node -store mongodb://127.0.0.1/x -targets node+store", 1, ""},
		"no such suite":  {"-suite moon", 0, `no suite "moon"`},
		"no such row":    {"-suite node -only memory,moon", 0, `no row "moon"`},
		"no such target": {"-suite node -targets moon", 0, "none of the targets"},
		"too many":       {"-suite node -n 20000", 0, "19000"},
		"left over":      {"node", 0, `"node" is not understood`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o, err := parse(strings.Fields(tt.args), io.Discard)
			var got int
			if err == nil {
				plans, planErr := plansOf(o, ".", io.Discard)
				got, err = len(plans), planErr
			}
			if tt.fails == "" && (err != nil || got != tt.plans) {
				t.Errorf("%s makes %d plans, %v; want %d", tt.args, got, err, tt.plans)
			}
			if tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("%s: %v, want it to say %q", tt.args, err, tt.fails)
			}
		})
	}
}
