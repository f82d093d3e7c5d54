package cli

import (
	"context"
	"io"
	"os"
)

// abandonable returns in as a reader whose reads end with ctx, and then with its
// error: a terminal or a pipe may have nothing to say for ever. A file is
// returned as it is.
func abandonable(ctx context.Context, in io.Reader) io.Reader {
	if file, ok := in.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			return in
		}
	}
	return &waiting{ctx, in}
}

// A waiting is a reader whose reads can be given up.
type waiting struct {
	ctx context.Context
	in  io.Reader
}

// Read reads into p (io.Reader). If ctx ends first, a goroutine stays behind,
// which nobody can end: it ends with the read that it is in, or with the process.
func (w *waiting) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	type result struct {
		n   int
		err error
	}
	own, done := make([]byte, len(p)), make(chan result, 1) // p is the caller's again once this returns
	go func() {
		n, err := w.in.Read(own)
		done <- result{n, err}
	}()
	select {
	case got := <-done:
		return copy(p, own[:got.n]), got.err
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
}
