package registry

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// LogTo sends what the Redis client itself has to say, such as connections that
// cannot be opened, to log. It holds for the whole process and belongs in main,
// before the first registry is opened.
func LogTo(log *slog.Logger) { redis.SetLogger(clientLog{log}) }

type clientLog struct{ log *slog.Logger }

func (c clientLog) Printf(ctx context.Context, format string, v ...any) {
	c.log.WarnContext(ctx, "redis client", "says", fmt.Sprintf(format, v...))
}
