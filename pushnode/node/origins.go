package node

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Origins are the pages that may connect besides those of the node's own host,
// each as a browser writes its Origin.
type Origins []string

// Origins that are no scheme://host[:port].
var specialOrigins = []string{
	"*",       // any
	"null",    // of pages that have none, as those in a sandbox
	"file://", // of local files, as some web views write it
}

// errOrigin says how an origin is written.
var errOrigin = errors.New("an origin is scheme://host[:port], as https://shop.example")

// UnmarshalText takes origins that are separated by commas
// (encoding.TextUnmarshaler). Space around one, a slash behind it and the port
// that its scheme has anyhow are left out, as browsers leave them out. Its error
// joins what is wrong with each.
func (o *Origins) UnmarshalText(text []byte) error {
	var list Origins
	var errs []error
	for part := range strings.SplitSeq(string(text), ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		origin, err := parseOrigin(part)
		list = append(list, origin)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	*o = list
	return nil
}

// parseOrigin returns what a browser sends for the origin text.
func parseOrigin(text string) (string, error) {
	if slices.Contains(specialOrigins, text) {
		return text, nil
	}
	u, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err != nil || u.Scheme == "" || u.Opaque != "" || u.User != nil ||
		u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || !isHost(u.Hostname()) {
		return "", fmt.Errorf("%q: %w", text, errOrigin)
	}
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Host), u.Port()
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("%q: its port is not between 1 and 65535", text)
		}
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" || strings.HasSuffix(host, ":") {
		host = host[:strings.LastIndexByte(host, ':')]
	}
	return scheme + "://" + host, nil
}

// isHost reports whether host may stand in an Origin: there names are ASCII, and
// none is a pattern.
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host != "" && strings.IndexFunc(host, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	}) < 0
}

// strangers are the origins of pages that a node refused and told of: whoever
// develops a page sees which one it has, once, however often its client tries.
type strangers struct {
	mu   sync.Mutex // guards what follows
	told []string
}

// Anybody may make up origins: so many are told of, and so much of each.
const (
	mostStrangers   = 16
	strangersLength = 200 // bytes
)

// first returns what to tell of an origin that was refused, and whether it is to
// be told: once, while there is room.
func (s *strangers) first(origin string) (string, bool) {
	origin = strings.ToValidUTF8(origin[:min(len(origin), strangersLength)], "")
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.told) == mostStrangers || slices.Contains(s.told, origin) {
		return "", false
	}
	origin = strings.Clone(origin) // the request's bytes are used again
	s.told = append(s.told, origin)
	return origin, true
}
