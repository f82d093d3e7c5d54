package limit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"pushcluster/shared/registry"
)

// Others is the name that stands for every API key that has no rate of its own,
// each by itself.
const Others = "*"

// Keys are the limits of API keys by their names. The zero Keys limits nobody.
type Keys struct {
	rates map[string][]registry.Rate
}

// ParseKeys reads "NAME:RATE" or "NAME:RATE:BURST", separated by commas or line
// ends, as in "shop:100/s:200,shop:100000/d,*:20/s". A name may occur several
// times: all its limits count.
func ParseKeys(text string) (Keys, error) {
	k := Keys{rates: make(map[string][]registry.Rate)}
	for i, one := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		one = strings.TrimSpace(one)
		if one == "" {
			continue
		}
		parts := strings.Split(one, ":")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
			return Keys{}, fmt.Errorf("limit %d is not of the form NAME:RATE or NAME:RATE:BURST", i+1)
		}
		burst := 0
		if len(parts) == 3 {
			var err error
			if burst, err = strconv.Atoi(parts[2]); err != nil || burst < 1 {
				return Keys{}, fmt.Errorf("limit %d: burst is a number from 1 to %d", i+1, maxCount)
			}
		}
		rate, err := ParseRate(parts[1], burst)
		if err != nil {
			return Keys{}, fmt.Errorf("limit %d: %w", i+1, err)
		}
		name := parts[0]
		if k.rates[name] = append(k.rates[name], rate); len(k.rates[name]) > MaxRates {
			return Keys{}, fmt.Errorf("limit %d: one name has at most %d limits", i+1, MaxRates)
		}
	}
	return k, nil
}

// UnmarshalText reads limits as [ParseKeys] does.
func (k *Keys) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKeys(string(text))
	return err
}

// Of returns the limits of the API key of that name.
func (k Keys) Of(name string) []registry.Rate {
	if own, ok := k.rates[name]; ok {
		return own
	}
	return k.rates[Others]
}

// Check returns nil if has says of every name that there is such a key.
func (k Keys) Check(has func(name string) bool) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(k.rates)) {
		if name != Others && !has(name) {
			errs = append(errs, fmt.Errorf("no API key is named %q", name))
		}
	}
	return errors.Join(errs...)
}
