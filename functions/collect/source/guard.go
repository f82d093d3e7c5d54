package source

import (
	"fmt"
	"strconv"

	"pushcluster/functions/collect/address"
	"pushcluster/functions/collect/limit"
	"pushcluster/shared/registry"
)

// maxAddresses is how many networks one source may list.
const maxAddresses = 100

// limits reads how often the source may post; nil: as often as it likes.
func (p *parse) limits(m mapping) []registry.Rate {
	f, given := m.fields["limit"]
	if !given || isNull(f.value) {
		return nil
	}
	path := m.in("limit")
	var rates []registry.Rate
	for i, node := range p.list(f.value, path, limit.MaxRates) {
		at := path
		if node != f.value {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		one, ok := p.mapping(node, at, []string{"rate", "burst"})
		if !ok {
			continue
		}
		burst := 0
		if text := p.scalar(one, "burst"); text != "" {
			var err error
			if burst, err = strconv.Atoi(text); err != nil || burst < 1 {
				p.fault(one.at("burst"), one.in("burst"), "must be a whole number above 0: how many may come at once")
				continue
			}
		}
		rate, err := limit.ParseRate(p.scalar(one, "rate"), burst)
		if err != nil {
			p.fault(one.at("rate"), one.in("rate"), "%v", err)
			continue
		}
		rates = append(rates, rate)
	}
	return rates
}

// addresses reads where the source may post from; nil: from anywhere.
func (p *parse) addresses(m mapping) address.Prefixes {
	f, given := m.fields["addresses"]
	if !given || isNull(f.value) {
		return nil
	}
	path := m.in("addresses")
	before := len(p.faults)
	var networks address.Prefixes
	for i, node := range p.list(f.value, path, maxAddresses) {
		at := fmt.Sprintf("%s[%d]", path, i)
		value, ok := text(node)
		if !ok {
			p.fault(node, at, "must be one text, not %s", kind(node))
			continue
		}
		network, err := address.ParsePrefix(value)
		if err != nil {
			p.fault(node, at, "%v", err)
			continue
		}
		networks = append(networks, network)
	}
	if len(networks) == 0 && len(p.faults) == before {
		p.fault(f.key, path, "is empty: nobody could post; leave it out to allow every address")
	}
	return networks
}
