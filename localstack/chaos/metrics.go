package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// scrapeEvery is how often the programs' counters are read, so that what a
// process counted before it was killed is not all lost.
const scrapeEvery = time.Second

// A scraper reads /metrics of every program of a cluster.
type scraper struct {
	cluster *cluster

	mu   sync.Mutex                            // guards what follows
	seen map[string]map[int]map[string]float64 // by process, life and series
}

func newScraper(c *cluster) *scraper {
	return &scraper{cluster: c, seen: make(map[string]map[int]map[string]float64)}
}

// run reads again and again until ctx ends.
func (s *scraper) run(ctx context.Context) {
	t := time.NewTicker(scrapeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.read(ctx)
		}
	}
}

// read reads the counters of what runs.
func (s *scraper) read(ctx context.Context) {
	var wg sync.WaitGroup
	for _, p := range s.cluster.processes() {
		wg.Go(func() {
			p.mu.Lock()
			life := p.lives
			p.mu.Unlock()
			series, err := scrape(ctx, p.metrics)
			if err != nil {
				return // it does not run, or is frozen
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.seen[p.name] == nil {
				s.seen[p.name] = make(map[int]map[string]float64)
			}
			s.seen[p.name][life] = series
		})
	}
	wg.Wait()
}

func scrape(ctx context.Context, url string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := probe.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, res.Status)
	}
	return parseMetrics(res.Body)
}

// parseMetrics reads the Prometheus text format: a value for each series, which
// is named as it is written.
func parseMetrics(r io.Reader) (map[string]float64, error) {
	series := make(map[string]float64)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			series[line[:at]] = v
		}
	}
	return series, lines.Err()
}

// sum adds up a metric over all processes and lives: all its series that have
// every one of labels, each written as name="value".
func (s *scraper) sum(metric string, labels ...string) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0.0
	for _, lives := range s.seen {
		for _, all := range lives {
			for series, v := range all {
				if matches(series, metric, labels) {
					total += v
				}
			}
		}
	}
	return total
}

func matches(series, metric string, labels []string) bool {
	rest, ok := strings.CutPrefix(series, metric)
	if !ok || rest != "" && rest[0] != '{' {
		return false
	}
	for _, l := range labels {
		if !strings.Contains(rest, l) {
			return false
		}
	}
	return true
}

// check compares the counters with the ledger and returns a sentence for
// everything that does not agree. Counters of a process that was killed may
// lack its last second, so then they bound from one side only.
func (s *scraper) check(l *ledger, t tally) []string {
	var wrong []string
	l.mu.Lock()
	posted := len(l.messages)
	l.mu.Unlock()
	stored := int(s.sum("collect_messages_total", `outcome="accepted"`))
	// What was stored while its answer was lost counts as a repeat the next time.
	kept := stored + int(s.sum("collect_messages_total", `outcome="repeated"`))
	if s.cluster.collect.livesSoFar() == 1 && (kept < t.accepted || stored > posted) {
		wrong = append(wrong, fmt.Sprintf("Collect counts %d new messages and %d repeats, the senders posted %d and had %d accepted", stored, kept-stored, posted, t.accepted))
	}
	confirmed := int(s.sum("dispatch_messages_total", `outcome="confirmed"`))
	if s.cluster.dispatch.livesSoFar() == 1 && confirmed < t.accepted {
		wrong = append(wrong, fmt.Sprintf("Dispatch counts %d messages confirmed, fewer than the %d accepted", confirmed, t.accepted))
	}
	if n := s.sum("pushnode_dropped_total", `reason="encode"`); n > 0 {
		wrong = append(wrong, fmt.Sprintf("nodes could not encode %v publications", n))
	}
	return wrong
}

func (p *process) livesSoFar() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lives
}
