package verify

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pushcluster/shared/push"
)

// FuzzQuickBatch holds the quick reading of an answer to the long one.
func FuzzQuickBatch(f *testing.F) {
	f.Add([]byte(`{"results":[{"identity":{"user":"42","expires_at":"2026-11-29T00:40:17Z","issued_at":"2026-11-22T00:40:17.511Z","jti":"A","channels":["n"],"topics":["a*","b"]}},{"identity":{"user":"43"}}]}`))
	f.Add([]byte(`{"results":[{"problem":{"code":"token_expired","status":401,"detail":"\"}{"}},{}]}`))
	f.Add([]byte(`{"results":[{"identity":{"user":"42","info":{"a":"}"}}},{"identity":null}]}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		const n = 2
		got, ok := quickBatch(answer, n)
		if !ok {
			return
		}
		var want push.VerifyBatchAnswer
		if err := json.Unmarshal(answer, &want); err != nil || !reflect.DeepEqual(got, want.Results) {
			t.Errorf("quickBatch(%q) = %+v, encoding/json %+v, %v", answer, got, want.Results, err)
		}
	})
}

// TestQuickBatch says that the common answers are read quickly.
func TestQuickBatch(t *testing.T) {
	tests := map[string]struct {
		answer string
		quick  bool
	}{
		"identities": {`{"results":[{"identity":{"user":"42","expires_at":"2026-11-29T00:40:17Z","jti":"A"}},{"identity":{"user":"43","topics":["a","b*"]}}]}`, true},
		"mixed":      {`{"results":[{"problem":{"code":"token_expired"}},{"identity":{"user":"ä"}}]}`, true},
		"spaces":     {`{"results": [{},{}]}`, false},
		"too few":    {`{"results":[{}]}`, false},
		"too many":   {`{"results":[{},{},{}]}`, false},
		"cut short":  {`{"results":[{},{`, false},
		"nothing":    {``, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, ok := quickBatch([]byte(tt.answer), 2); ok != tt.quick {
				t.Errorf("quickBatch(%s): %v, want %v", tt.answer, ok, tt.quick)
			}
		})
	}
}

// BenchmarkReadBatch reads the answer to 64 tokens.
func BenchmarkReadBatch(b *testing.B) {
	one := `{"identity":{"user":"4242","expires_at":"2026-11-29T00:40:17Z","issued_at":"2026-11-22T00:40:17.511Z","jti":"AFQQK24IOEAPNBM25NC5KRJ2SG"}}`
	answer := []byte(`{"results":[` + strings.Repeat(one+",", 63) + one + `]}`)
	b.ReportAllocs()
	for b.Loop() {
		if results, ok := readBatch(answer, 64); !ok || results[63].Identity.User != "4242" {
			b.Fatal(results)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/token")
}
