// Package serve is everything about being an HTTP program: strict decoding of
// bodies, answers and problems, health, the middleware around every handler,
// configuration from the environment, and starting and stopping.
//
// A program of this project is an http.Handler; its main.go holds a Config with
// struct tags and a run function that wires the parts:
//
//	type Config struct {
//		Listen string `env:"LISTEN" envDefault:":8702" help:"address of the public port"`
//	}
//
//	func main() {
//		os.Exit(serve.Main(serve.Program[Config]{Name: "collect", About: "…", Run: run}))
//	}
//
//	func run(ctx context.Context, cfg Config, stderr io.Writer) error {
//		…
//		return serve.Run(ctx, log, serve.Server{Name: "public", Env: "LISTEN", Addr: cfg.Listen, Handler: h})
//	}
//
// The same program is a Lambda function where Lambda starts it: a run function
// that ends in [Start] says in [Events] what it answers there. Nothing else of
// the project knows what an event looks like.
package serve
