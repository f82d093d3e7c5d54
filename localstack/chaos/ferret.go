package chaos

import "context"

// A ferretProcess is the MongoDB wire server of the MongoDB scenarios.
type ferretProcess struct{ process }

func (f *ferretProcess) start(ctx context.Context) error { return f.process.start(ctx) }
func (f *ferretProcess) close()                          { f.kill() }
