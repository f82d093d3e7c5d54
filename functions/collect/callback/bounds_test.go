package callback

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushcluster/functions/collect/source"
	"pushcluster/shared/store"
)

// TestSourcesComeAndGo: what is kept of sources that the API adds and removes
// again does not grow without end.
func TestSourcesComeAndGo(t *testing.T) {
	r := newRig(t)
	const many = 3 * source.MaxStored
	for i := range many {
		r.at(time.Duration(i) * time.Minute)
		name := fmt.Sprint("s", i)
		r.sweeper.failed(&store.Callback{Source: name, FailingSince: r.now().Add(-25 * time.Hour)}, name, errors.New("away"))
		r.sweeper.fails(name, errors.New("away"), r.now())
	}
	if n := testutil.CollectAndCount(r.sweeper.metrics.callbacks); n > 2*source.MaxStored+1 {
		t.Errorf("after %d sources there are %d series, want at most %d", many, n, 2*source.MaxStored+1)
	}
	if n := len(r.sweeper.failing); n > maxFailing {
		t.Errorf("after %d sources %d are noted as failing, want at most %d", many, n, maxFailing)
	}
}
