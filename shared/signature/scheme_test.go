package signature

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSchemeCheck(t *testing.T) {
	tests := map[string]struct {
		scheme Scheme
		fields []string
	}{
		"least":                     {Scheme{Header: "X-Sig"}, nil},
		"no header":                 {Scheme{}, []string{"header"}},
		"header with a colon":       {Scheme{Header: "X:Y"}, []string{"header"}},
		"unknown algorithm":         {Scheme{Header: "X", Algorithm: "md5"}, []string{"algorithm"}},
		"unknown encoding":          {Scheme{Header: "X", Encoding: "base32"}, []string{"encoding"}},
		"body not signed":           {Scheme{Header: "X", Template: "hello"}, []string{"template"}},
		"unknown name":              {Scheme{Header: "X", Template: "{body}{ts}"}, []string{"template"}},
		"body twice":                {Scheme{Header: "X", Template: "{body}{body}"}, []string{"template"}},
		"brace open":                {Scheme{Header: "X", Template: "{body}{"}, []string{"template"}},
		"time not signed":           {Scheme{Header: "X", Timestamp: "X-T"}, []string{"template"}},
		"time from nowhere":         {Scheme{Header: "X", Template: "{timestamp}{body}"}, []string{"timestamp"}},
		"time part, no separator":   {Scheme{Header: "X", Timestamp: "t=", Template: "{timestamp}{body}"}, []string{"timestamp"}},
		"id signed but not there":   {Scheme{Header: "X", Template: "{id}{body}", ID: "body:id"}, []string{"id"}},
		"id from elsewhere":         {Scheme{Header: "X", ID: "query:id"}, []string{"id"}},
		"id with an empty field":    {Scheme{Header: "X", ID: "body:a..b"}, []string{"id"}},
		"tolerance of a week":       {Scheme{Header: "X", Tolerance: 7 * 24 * time.Hour}, []string{"tolerance"}},
		"negative tolerance":        {Scheme{Header: "X", Tolerance: -time.Second}, []string{"tolerance"}},
		"basic needs nothing":       {Scheme{Algorithm: BasicAuth}, nil},
		"token needs no template":   {Scheme{Header: "X", Algorithm: SharedToken, Template: "x"}, nil},
		"everything wrong at once":  {Scheme{Header: "?", Algorithm: "x", Encoding: "x", Template: "x"}, []string{"algorithm", "encoding", "header", "template"}},
		"a time that is no header":  {Scheme{Header: "X", Timestamp: "a b", Template: "{timestamp}{body}"}, []string{"timestamp"}},
		"a separator, a time aside": {Scheme{Header: "X", Separator: ",", Timestamp: "t=", Template: "{timestamp}{body}"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var fields []string
			if err := tt.scheme.Check(); err != nil {
				for _, one := range err.(interface{ Unwrap() []error }).Unwrap() {
					var wrong *SchemeError
					if errors.As(one, &wrong) {
						fields = append(fields, wrong.Field)
					}
				}
			}
			if !slices.Equal(fields, tt.fields) {
				t.Errorf("Check(%+v) names %q (%v), want %q", tt.scheme, fields, tt.scheme.Check(), tt.fields)
			}
		})
	}
	for _, name := range Presets() {
		if scheme, _ := Preset(name); scheme.Check() != nil {
			t.Errorf("preset %s: %v", name, scheme.Check())
		}
	}
}

func TestReceiverSecrets(t *testing.T) {
	tests := map[string]struct {
		preset  string
		secrets []string
		err     string
	}{
		"none":                   {"github", nil, "there is no secret"},
		"empty":                  {"github", []string{"a", ""}, "secret 2: it is empty"},
		"basic without colon":    {"postmark", []string{"sesame"}, "USER:PASSWORD"},
		"standard not base64":    {"standard", []string{"whsec_sesame sesame"}, "neither whsec_ nor whpk_"},
		"standard short":         {"standard", []string{"whsec_c2VzYW1l"}, "shorter than 16"},
		"standard with version":  {"supabase", []string{"v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, ""},
		"standard bare base64":   {"svix", []string{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, ""},
		"standard short public":  {"standard", []string{"whpk_sesame"}, "no Ed25519 public key"},
		"ECDSA not a public key": {"sendgrid", []string{"sesame"}, "no ECDSA public key"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			scheme, _ := Preset(tt.preset)
			_, err := NewReceiver(scheme, tt.secrets)
			if (err == nil) != (tt.err == "") || err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "sesame")) {
				t.Errorf("NewReceiver(%q) = %v, want %q and no secret told", tt.secrets, err, tt.err)
			}
		})
	}
}
