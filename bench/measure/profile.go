//go:build linux

package measure

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// profile takes a processor profile of every process that offers one while run
// runs, and a heap profile after it, where Config.Profiles says so.
func (r *Rig) profile(ctx context.Context, row string, run func() (Figures, error)) (Figures, error) {
	if r.cfg.Profiles == "" {
		return run()
	}
	var wg sync.WaitGroup
	faults := make(chan error, len(r.target.Profiles))
	seconds := int(math.Ceil(r.cfg.Span.Seconds()))
	for name, base := range r.target.Profiles {
		wg.Go(func() {
			faults <- save(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", base, seconds), r.profilePath(row, name, "cpu"))
		})
	}
	figures, err := run()
	wg.Wait()
	close(faults)
	for fault := range faults {
		if err == nil {
			err = fault
		}
	}
	if base := r.target.Profiles[r.target.Column()]; err == nil && base != "" {
		err = save(ctx, base+"/debug/pprof/heap?gc=1", r.profilePath(row, r.target.Column(), "heap"))
	}
	return figures, err
}

func (r *Rig) profilePath(row, process, kind string) string {
	return filepath.Join(r.cfg.Profiles, fmt.Sprintf("%s-%s-%s.%s.pprof", r.target.Name, row, process, kind))
}

// save gets url into the file at path.
func save(ctx context.Context, url, path string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s is answered %s: %.100s", url, res.Status, b)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}
