package callback

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// reserved are the addresses that are not anybody's on the Internet, beside
// those that netip knows: networks of one's own, and ways to write one address
// into another.
func reserved() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),      // this host
		netip.MustParsePrefix("100.64.0.0/10"),  // shared by a provider's customers
		netip.MustParsePrefix("192.0.0.0/24"),   // protocols
		netip.MustParsePrefix("192.0.2.0/24"),   // examples
		netip.MustParsePrefix("192.88.99.0/24"), // 6to4 relays
		netip.MustParsePrefix("198.18.0.0/15"),  // measurements
		netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("::/96"),          // IPv4 in IPv6, as it once was written
		netip.MustParsePrefix("64:ff9b::/96"),   // IPv4 behind a translator
		netip.MustParsePrefix("64:ff9b:1::/48"), // the same, of one's own
		netip.MustParsePrefix("100::/64"),       // discarded
		netip.MustParsePrefix("2001::/23"),      // protocols, Teredo
		netip.MustParsePrefix("2001:db8::/32"),  // examples
		netip.MustParsePrefix("2002::/16"),      // IPv4 in 6to4
		netip.MustParsePrefix("fec0::/10"),      // site-local, as it once was
	}
}

// A guard lets connections out to the Internet alone, and to what is allowed
// besides. It looks at the address that is about to be connected to, so that no
// name, however it is resolved and how often, leads anywhere else.
type guard struct {
	allow    []netip.Prefix
	reserved []netip.Prefix
}

// errTarget says that an address may not be posted to.
type errTarget struct{ addr netip.Addr }

func (e *errTarget) Error() string {
	return fmt.Sprintf("%s is an address of a private network, where callbacks are not sent: allow it in CALLBACK_ALLOW if it is meant", e.addr)
}

// control is a net.Dialer's Control.
func (g *guard) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read the address %s: %w", address, err)
	}
	return g.check(to.Addr())
}

// check returns an error if nothing may be sent to addr.
func (g *guard) check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	within := func(p netip.Prefix) bool { return p.Contains(addr) }
	if slices.ContainsFunc(g.allow, within) {
		return nil
	}
	if !addr.IsGlobalUnicast() || addr.IsPrivate() || slices.ContainsFunc(g.reserved, within) {
		return &errTarget{addr}
	}
	return nil
}
