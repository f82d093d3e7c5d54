package follow

import "testing"

func TestAddress(t *testing.T) {
	tests := map[string]struct {
		url, want string // want empty: an error
	}{
		"base URL":       {"http://127.0.0.1:8711", "ws://127.0.0.1:8711/connection/websocket"},
		"with a slash":   {"https://push.example.com/", "wss://push.example.com/connection/websocket"},
		"its endpoint":   {"wss://push.example.com/connection/websocket", "wss://push.example.com/connection/websocket"},
		"behind a path":  {"ws://example.com/push?a=b", "ws://example.com/push?a=b"},
		"no scheme":      {"127.0.0.1:8711", ""},
		"another scheme": {"ftp://127.0.0.1", ""},
		"nothing":        {"", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Address(tt.url)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("Address(%q) = %q, %v, want %q", tt.url, got, err, tt.want)
			}
		})
	}
}
