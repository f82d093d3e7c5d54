// Package address finds the address at which the rest of the cluster reaches
// this node.
package address

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A Finder knows where to look. The first that answers counts: the configured
// address, the ECS task metadata, an interface of this machine.
type Finder struct {
	Configured  string // NODE_ADDR: host or host:port
	MetadataURI string // ECS_CONTAINER_METADATA_URI_V4, empty outside ECS
	Client      *http.Client
	Interfaces  func() ([]net.Addr, error) // nil means net.InterfaceAddrs
}

// metadataPatience is how long incomplete task metadata is asked for again: ECS
// may fill the network in a second after the start.
const (
	metadataPatience = 10 * time.Second
	metadataPause    = 250 * time.Millisecond
	maxMetadata      = 1 << 20
)

// Find returns host:port, with the given port where the source names none. It
// fails where ECS does not tell the address in time or runs the node behind a
// bridge, and where no interface has an address.
func (f *Finder) Find(ctx context.Context, port string) (string, error) {
	switch {
	case f.Configured != "":
		addr, err := withPort(f.Configured, port)
		if err != nil {
			return "", fmt.Errorf("NODE_ADDR: %w", err)
		}
		return addr, nil
	case f.MetadataURI != "":
		ip, err := f.fromECS(ctx)
		if errors.Is(err, errHostNetwork) {
			break // the interfaces are those that others reach
		}
		if err != nil {
			return "", fmt.Errorf("address from the ECS task metadata: %w", err)
		}
		return net.JoinHostPort(ip, port), nil
	}
	ip, err := f.fromInterfaces()
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(ip, port), nil
}

// Check returns nil if configured can be a [Finder]'s.
func Check(configured string) error {
	_, err := withPort(configured, "1")
	return err
}

// withPort returns addr, which is a host or host:port, with port if it has none.
func withPort(addr, port string) (string, error) {
	host, own, err := net.SplitHostPort(addr)
	if err != nil {
		host, own = addr, port
		if inside, ok := strings.CutPrefix(addr, "["); ok {
			host = strings.TrimSuffix(inside, "]")
		}
	}
	if n, err := strconv.ParseUint(own, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has a port that is not between 1 and 65535", addr)
	}
	if _, err := netip.ParseAddr(host); err != nil && !isName(host) {
		return "", fmt.Errorf("%q is neither host nor host:port", addr)
	}
	return net.JoinHostPort(host, own), nil
}

// isName reports whether host looks like the name of one.
func isName(host string) bool {
	return host != "" && strings.IndexFunc(host, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	}) < 0
}

// What a document may say instead of an address. The first may change yet.
var (
	errIncomplete  = errors.New("it lists no network with an IPv4 address yet")
	errHostNetwork = errors.New("the network is the host's")
	errBridge      = errors.New("the network mode is bridge, in which others reach the host and not the container; use awsvpc, or set NODE_ADDR")
)

// fromECS asks the task metadata endpoint, version 4, until it is complete.
func (f *Finder) fromECS(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataPatience)
	defer cancel()
	pause := time.NewTicker(metadataPause)
	defer pause.Stop()
	var why error // not that time is up, which says nothing, if there is anything else to say
	for {
		ip, err := f.askECS(ctx)
		if err == nil || errors.Is(err, errHostNetwork) || errors.Is(err, errBridge) {
			return ip, err
		}
		if why == nil || ctx.Err() == nil {
			why = err
		}
		select {
		case <-ctx.Done():
			return "", why
		case <-pause.C:
		}
	}
}

func (f *Finder) askECS(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.MetadataURI, nil)
	if err != nil {
		return "", err
	}
	resp, err := f.Client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadata))
	if err != nil {
		return "", err
	}
	return parseMetadata(body)
}

// parseMetadata returns the task's address from a version 4 container metadata
// document: the first IPv4 address of its awsvpc network. Its error tells where
// there is no such network: [errIncomplete], [errHostNetwork] or [errBridge].
func parseMetadata(body []byte) (string, error) {
	var doc struct {
		Networks []struct {
			NetworkMode   string
			IPv4Addresses []string
		}
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", fmt.Errorf("not a metadata document: %w", err)
	}
	other := errIncomplete
	for _, n := range doc.Networks {
		switch {
		case n.NetworkMode == "awsvpc" && len(n.IPv4Addresses) > 0:
			ip, err := netip.ParseAddr(n.IPv4Addresses[0])
			if err != nil || !ip.Is4() {
				return "", fmt.Errorf("%q is no IPv4 address", n.IPv4Addresses[0])
			}
			return ip.String(), nil
		case n.NetworkMode == "host":
			other = errHostNetwork
		case n.NetworkMode == "bridge":
			other = errBridge
		}
	}
	return "", other
}

// fromInterfaces returns the first private IPv4 address of this machine, else
// its first other one, else loopback: then the whole cluster is on it.
func (f *Finder) fromInterfaces() (string, error) {
	list := f.Interfaces
	if list == nil {
		list = net.InterfaceAddrs
	}
	addrs, err := list()
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	var public, loopback string
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || !prefix.Addr().Is4() || prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		switch ip := prefix.Addr(); {
		case ip.IsLoopback():
			loopback = ip.String()
		case ip.IsPrivate():
			return ip.String(), nil
		case public == "":
			public = ip.String()
		}
	}
	if public != "" {
		return public, nil
	}
	if loopback != "" {
		return loopback, nil
	}
	return "", errors.New("no interface has an IPv4 address; set NODE_ADDR")
}
