package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"clntrace/collector/export"
)

const usage = `Usage: clntrace demo [--otlp-endpoint=URL]

Replays a recorded start of lightningd and a payment, and prints the traces.
With --otlp-endpoint they go to that OTLP gRPC endpoint instead.
`

// Main runs the demo command, until it ends or a signal comes, and returns the exit
// status.
func Main(version string, args []string) int {
	o := options{version: version, out: os.Stdout, log: os.Stderr, patience: patience, exportTime: exportTime}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("otlp-endpoint", "", func(s string) error {
		endpoint, err := export.ParseEndpoint(s)
		if err == nil && endpoint.HasPath() {
			err = errors.New("it has a path, and gRPC has none; allowed is http://host:port")
		}
		o.endpoint = &endpoint
		return err
	})
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("%q is not an option", flags.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "clntrace demo: %v\n\n%s", err, usage)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "clntrace demo: %v\n", err)
		return 1
	}
	return 0
}
