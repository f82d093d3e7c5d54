package mongostore

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// defaultDatabase is used where the URI names none.
const defaultDatabase = "pushcluster"

var errCredentials = errors.New("its user or password holds a character that must be percent-encoded")

// A target is what a URI says.
type target struct {
	uri        string // for the driver, without what is ours
	database   string
	maxUpdates int      // 0: not said
	secrets    []string // user and password, as written and as meant
}

// parseURI reads a mongodb:// or mongodb+srv:// URI as far as it concerns us.
// (Package net/url refuses URIs with several hosts.) Its errors show nothing
// of user and password.
func parseURI(uri string) (target, error) {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok || scheme != "mongodb" && scheme != "mongodb+srv" {
		return target{}, errors.New("it does not start with mongodb:// or mongodb+srv://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	// A user or password holds neither '/' nor '@' unless escaped. One that
	// does all the same must not end up in an error as host or database.
	credentials, at := "", strings.LastIndex(rest, "@")
	if at >= 0 {
		credentials = rest[:at]
	}
	if at < 0 && strings.Contains(query, "@") {
		return target{}, errCredentials
	}
	hosts, database, _ := strings.Cut(rest[at+1:], "/")
	if hosts == "" {
		return target{}, errors.New("it names no host")
	}
	t := target{database: defaultDatabase}
	if database != "" {
		name, err := url.PathUnescape(database)
		if err != nil || strings.ContainsAny(name, "/\\. \"$*<>:|?\x00") {
			return target{}, fmt.Errorf("%q is no name for a database", database)
		}
		t.database = name
	}
	if at >= 0 {
		secrets, err := splitCredentials(credentials)
		if err != nil {
			return target{}, err
		}
		t.secrets = secrets
	}

	var options []string
	for option := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(option, "=")
		if !strings.EqualFold(name, "maxUpdates") {
			options = append(options, option)
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return target{}, errors.New("its option maxUpdates is not a positive number")
		}
		t.maxUpdates = n
	}
	t.uri = scheme + "://" + rest
	if !strings.Contains(rest[at+1:], "/") {
		t.uri += "/"
	}
	if query := strings.Join(options, "&"); query != "" {
		t.uri += "?" + query
	}
	return t, nil
}

// splitCredentials returns user and password, each as written and unescaped.
func splitCredentials(credentials string) ([]string, error) {
	var secrets []string
	user, password, _ := strings.Cut(credentials, ":")
	for _, part := range []string{user, password} {
		plain, err := url.PathUnescape(part)
		if err != nil || strings.ContainsAny(part, "/@:") {
			return nil, errCredentials
		}
		if part != "" {
			secrets = append(secrets, part, plain)
		}
	}
	return secrets, nil
}

// redact returns err with user and password taken out of its text.
func (t target) redact(err error) error {
	text := err.Error()
	for _, secret := range t.secrets {
		text = strings.ReplaceAll(text, secret, "…")
	}
	return errors.New(text)
}
