// Package telemetry is how a program tells what it does: its log, its metrics,
// and the trace that a message carries from webhook to socket.
package telemetry

import (
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// NewLog returns a log that writes one line of JSON an event to w, from level
// up, in which a duration reads "1.5s". Every line names the program. LOG_LEVEL is parsed by slog.Level itself.
func NewLog(w io.Writer, program string, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: readable})).With("program", program)
}

// readable writes durations out: by itself JSON has their nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}

// NewRegistry returns a registry with the figures of the Go runtime and the
// process, and pushcluster_build_info, which names the program and its version.
func NewRegistry(program string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	version, revision := build()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pushcluster_build_info", Help: "Always 1; its labels name the program and its build.",
		ConstLabels: prometheus.Labels{
			"program": program, "version": version, "revision": revision, "go": runtime.Version()},
	})
	info.Set(1)
	reg.MustRegister(info)
	reg.MustRegister(processCollectors()...)
	return reg
}

// Version returns the version of the program's module as the build noted it,
// "unknown" where it did not.
func Version() string {
	version, _ := build()
	return version
}

// build returns the version of the main module and the revision it was built
// from, "unknown" where the build did not note them.
func build() (version, revision string) {
	version, revision = "unknown", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, revision
	}
	if info.Main.Version != "" {
		version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return version, revision
}
