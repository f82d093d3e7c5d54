package registry

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// LogTo sends what the Redis client itself has to say, such as connections that
// cannot be opened, to log, at level debug: it says so at every try, and whoever
// asked hears the error, too. It holds for the whole process and belongs in main,
// before the first registry is opened.
func LogTo(log *slog.Logger) { redis.SetLogger(clientLog{log}) }

type clientLog struct{ log *slog.Logger }

func (c clientLog) Printf(ctx context.Context, format string, v ...any) {
	c.log.DebugContext(ctx, "redis client", "says", fmt.Sprintf(format, v...))
}
