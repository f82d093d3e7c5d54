package push

import (
	"testing"
	"time"
)

func TestCovers(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	user, token := Revocation{User: "42", At: at}, Revocation{TokenID: "t1", At: at}
	tests := map[string]struct {
		revocation Revocation
		identity   Identity
		want       bool
	}{
		"issued before":                   {user, Identity{User: "42", IssuedAt: at.Add(-time.Hour)}, true},
		"issued at that moment":           {user, Identity{User: "42", IssuedAt: at}, true},
		"issued after":                    {user, Identity{User: "42", IssuedAt: at.Add(time.Millisecond)}, false},
		"does not say when":               {user, Identity{User: "42"}, true},
		"another user's":                  {user, Identity{User: "43", IssuedAt: at.Add(-time.Hour)}, false},
		"the token":                       {token, Identity{User: "42", TokenID: "t1", IssuedAt: at.Add(time.Hour)}, true},
		"another token":                   {token, Identity{User: "42", TokenID: "t2"}, false},
		"a token without id":              {token, Identity{User: "42"}, false},
		"nothing is revoked":              {Revocation{At: at}, Identity{}, false},
		"nothing is revoked, no token id": {Revocation{At: at}, Identity{User: "42"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.revocation.Covers(&tt.identity); got != tt.want {
				t.Errorf("Covers(%+v) of %+v = %v, want %v", tt.identity, tt.revocation, got, tt.want)
			}
		})
	}
}
