package source

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/functions/collect/rule"
)

// Follow returns the sources of the file at cfg.Path, none if that is empty, and
// of st, for a process that lives between requests: the file is looked at until
// ctx ends or the caller calls stop, which waits for that. An error says what is
// wrong with the file as it is now, and nothing was started. resolve is that of
// [NewFile] and [NewLive].
func Follow(ctx context.Context, cfg Config, st Lister, resolve Resolve, log *slog.Logger, reg prometheus.Registerer) (live *Live, stop func(), err error) {
	compiler, err := rule.NewCompiler()
	if err != nil {
		return nil, nil, err
	}
	if cfg.Path == "" {
		return NewLive(nil, st, compiler, resolve, nil, log), func() {}, nil
	}
	file := NewFile(cfg, compiler, resolve, log, reg)
	if err := file.Load(ctx); err != nil {
		return nil, nil, fmt.Errorf("%s:\n%w", cfg.Path, err)
	}
	ctx, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = file.Run(ctx) // ends with ctx alone
	}()
	return NewLive(file, st, compiler, resolve, nil, log), func() { end(); <-ended }, nil
}
