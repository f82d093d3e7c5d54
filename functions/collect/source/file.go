package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/functions/collect/rule"
	"pushcluster/shared/telemetry"
)

// Config tunes a [File].
type Config struct {
	Path string
	// Every is how often the file is looked at; 0 means 1 s.
	Every time.Duration
	// Secrets is how often its secrets are looked up again although the file is
	// as it was; 0 means 1 minute.
	Secrets time.Duration
}

// A File follows a file of sources. What is wrong with a new version is logged
// and counted, and the last good one stays. A new version counts when two looks
// have found it the same: who saves a file in place empties it first, and what is
// written by then may be good and lack sources.
//
// Somebody calls Run, or whoever asks for the Set has it looked at: where a
// process does not live between requests nothing can run.
type File struct {
	cfg      Config
	compiler *rule.Compiler
	resolve  Resolve
	log      *slog.Logger
	metrics  *metrics

	set atomic.Pointer[Set]

	mu      sync.Mutex // guards what follows; held while the file is read
	looked  time.Time
	found   os.FileInfo // at the last look; nil: it was not to be found
	parsed  time.Time
	version os.FileInfo // of the file as it was last read; nil before
	sum     [32]byte    // of it as it was last parsed, good or not
	err     error       // what was wrong with it
	said    string      // what was last said to be wrong; "" nothing is
}

// NewFile returns a file that is not read yet: see [File.Load]. It does no I/O
// and starts nothing.
func NewFile(cfg Config, compiler *rule.Compiler, resolve Resolve, log *slog.Logger, reg prometheus.Registerer) *File {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Secrets == 0 {
		cfg.Secrets = time.Minute
	}
	return &File{cfg: cfg, compiler: compiler, resolve: resolve, log: log, metrics: newMetrics(reg)}
}

// Load reads the file for the first time. Its error joins [*Fault]s, or says why
// the file cannot be read.
func (f *File) Load(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.looked = now
	text, info, err := readFile(f.cfg.Path)
	if err != nil {
		return err
	}
	return f.read(ctx, now, text, info)
}

// Set returns the sources of the last good version, having looked at the file if
// nobody did for Every. It never waits for another goroutine that is looking.
func (f *File) Set(ctx context.Context) *Set {
	f.Refresh(context.WithoutCancel(ctx), time.Now()) // who gives a request up takes no source away
	return f.set.Load()
}

// Refresh looks at the file if nobody did for Every before now.
func (f *File) Refresh(ctx context.Context, now time.Time) {
	if !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	if now.Sub(f.looked) < f.cfg.Every {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	rests, err := f.look(ctx, now)
	if !rests {
		return
	}
	if err != nil {
		f.say(err)
		return
	}
	if f.said != "" {
		f.said = ""
		f.metrics.broken.Set(0)
		f.log.Info("sources are good again", "file", f.cfg.Path)
	}
}

// Run looks at the file every Every until ctx ends, and returns ctx's error.
func (f *File) Run(ctx context.Context) error {
	tick := time.NewTicker(f.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			f.Refresh(ctx, time.Now())
		}
	}
}

// say tells once what is wrong, one line for each fault.
func (f *File) say(err error) {
	if f.said == err.Error() {
		return
	}
	f.said = err.Error()
	f.metrics.broken.Set(1)
	f.metrics.loads.WithLabelValues("broken").Inc()
	faults := Faults(err)
	if len(faults) == 0 {
		f.log.Error("sources cannot be read; the last good ones stay", "file", f.cfg.Path, "err", err)
	}
	for _, fault := range faults {
		f.log.Error("sources are wrong; the last good ones stay", "file", f.cfg.Path,
			"line", fault.Line, "column", fault.Column, "field", fault.Field, "err", fault.Reason)
	}
}

// look reads the file if it may have changed. One that was wrong is wrong until
// it changes, or until its secrets are looked up again. rests is false, and
// nothing else is told, where the file is not as it was at the last look: it is
// read when it is the same the next time.
func (f *File) look(ctx context.Context, now time.Time) (rests bool, err error) {
	f.looked = now
	before := f.found
	if f.found, err = os.Stat(f.cfg.Path); err != nil {
		f.found = nil
		return true, err
	}
	same := sameVersion(f.version, f.found)
	if !same && !sameVersion(before, f.found) {
		return false, nil
	}
	// A file system's clock may stand still over two writes of one size.
	settled := now.Sub(f.found.ModTime()) > 5*time.Second
	if same && settled && now.Sub(f.parsed) < f.cfg.Secrets {
		return true, f.err
	}
	text, info, err := readFile(f.cfg.Path)
	if err != nil {
		return true, err
	}
	if !sameVersion(f.found, info) {
		return false, nil
	}
	return true, f.read(ctx, now, text, info)
}

// sameVersion reports whether a file that was found twice was not written to in
// between, as far as that can be told. Where it was not found before, a is nil.
func sameVersion(a, b os.FileInfo) bool {
	return a != nil && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
}

// read parses text, which is that of the file info, unless it is the same as last
// time and its secrets are fresh.
func (f *File) read(ctx context.Context, now time.Time, text []byte, info os.FileInfo) error {
	f.version = info
	sum := sha256.Sum256(text)
	if sum == f.sum && now.Sub(f.parsed) < f.cfg.Secrets {
		return f.err
	}
	set, err := Parse(ctx, text, f.compiler, f.resolve)
	f.sum, f.parsed, f.err = sum, now, err
	if err != nil {
		return err
	}
	if old := f.set.Load(); old != nil && bytes.Equal(old.sum[:], set.sum[:]) {
		return nil
	}
	f.set.Store(set)
	f.metrics.loads.WithLabelValues("good").Inc()
	f.metrics.sources.Set(float64(len(set.sources)))
	f.log.Info("sources read", "file", f.cfg.Path, "sources", len(set.sources))
	return nil
}

// CheckPath returns nil if the file at path can be read, whatever it holds.
func CheckPath(path string) error {
	_, _, err := readFile(path)
	return err
}

func readFile(path string) ([]byte, os.FileInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	info, err := file.Stat() // behind the reading: what was saved meanwhile shows
	return text, info, err
}

type metrics struct {
	loads   *prometheus.CounterVec
	broken  prometheus.Gauge
	sources prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		loads: telemetry.Counters(f, "collect_sources_loads_total", "New versions of the file of sources, by result: good, broken.",
			"result", "good", "broken"),
		broken: f.NewGauge(prometheus.GaugeOpts{
			Name: "collect_sources_broken", Help: "1 while the file of sources is wrong and the last good version stands in."}),
		sources: f.NewGauge(prometheus.GaugeOpts{
			Name: "collect_sources", Help: "Sources of the file."}),
	}
}
