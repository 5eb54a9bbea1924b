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

	"clntrace/collector/help"
	"clntrace/collector/otlp"
)

// Help is the text of demo --help.
const Help = `Usage: clntrace demo [--otlp-endpoint=URL]

Replays a recorded start of lightningd and a payment, and prints the traces.
With --otlp-endpoint they go to that OTLP gRPC endpoint instead.
`

// Main runs the demo command, until it ends or a signal comes, and returns the exit
// status.
func Main(version string, args []string) int {
	o := options{version: version, out: os.Stdout, log: os.Stderr, patience: patience, exportTime: exportTime}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	endpoint := flags.String("otlp-endpoint", "", "")
	err := help.ParseFlags(flags, args)
	if err == nil && *endpoint != "" {
		o.endpoint, err = parseEndpoint(*endpoint)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(Help)
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "clntrace demo: %v\n", err)
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

// parseEndpoint reads the endpoint, which must be one for gRPC.
func parseEndpoint(s string) (*otlp.Endpoint, error) {
	endpoint, err := otlp.ParseEndpoint(s)
	if err == nil && endpoint.HasPath() {
		err = errors.New("it has a path, and gRPC has none; it must be http://host:port")
	}
	if err != nil {
		// Without the value: it may hold a password.
		return nil, fmt.Errorf("--otlp-endpoint: %w; see 'clntrace help demo'", err)
	}
	return &endpoint, nil
}
