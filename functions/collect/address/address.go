// Package address says which address a request comes from, and whether it is one
// that is allowed.
package address

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Prefixes are networks, or single addresses, of IPv4 and IPv6.
type Prefixes []netip.Prefix

// ParsePrefix reads a network like "192.0.2.0/24" or "2001:db8::/32", or one
// address. Bits behind the prefix must be zero: whoever writes 192.0.2.7/24
// meant something else.
func ParsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, errors.New(`must be a network like "192.0.2.0/24" or "2001:db8::/32", or an address`)
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, errors.New(`must be a network like "192.0.2.0/24" or "2001:db8::/32", or an address`)
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("is not the beginning of a network; the network is %s", p.Masked())
	}
	return p, nil
}

// ParsePrefixes reads networks and addresses separated by commas or line ends.
func ParsePrefixes(text string) (Prefixes, error) {
	var list Prefixes
	for i, one := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		one = strings.TrimSpace(one)
		if one == "" {
			continue
		}
		p, err := ParsePrefix(one)
		if err != nil {
			return nil, fmt.Errorf("entry %d %w", i+1, err)
		}
		list = append(list, p)
	}
	return list, nil
}

// UnmarshalText reads networks as [ParsePrefixes] does.
func (p *Prefixes) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePrefixes(string(text))
	return err
}

// Has reports whether addr is in one of the networks.
func (p Prefixes) Has(addr netip.Addr) bool {
	for _, network := range p {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// Of returns the address that a request comes from: the one that opened the
// connection or, where that is a trusted proxy's, the last one in
// X-Forwarded-For that is not. What stands before that one in the header was
// written by nobody we know. It returns the zero Addr where no address is to be
// had, which is in no network.
func Of(r *http.Request, trusted Prefixes) netip.Addr {
	addr := parse(r.RemoteAddr)
	if len(trusted) == 0 || !trusted.Has(addr) {
		return addr
	}
	hops := r.Header.Values("X-Forwarded-For")
	for i := len(hops) - 1; i >= 0; i-- {
		line := hops[i]
		for line != "" {
			var hop string
			if comma := strings.LastIndexByte(line, ','); comma >= 0 {
				line, hop = line[:comma], line[comma+1:]
			} else {
				line, hop = "", line
			}
			if addr = parse(strings.TrimSpace(hop)); !trusted.Has(addr) {
				return addr
			}
		}
	}
	return addr
}

// parse reads an address, with a port or without.
func parse(text string) netip.Addr {
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}
		}
		addr = withPort.Addr()
	}
	return addr.WithZone("").Unmap()
}
