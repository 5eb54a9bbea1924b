// Command clntrace is a Core Lightning plugin that takes the node's trace spans
// to OTLP. This file only picks what to be; the tour of the code begins with
// package collector.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"clntrace/collector/demo"
	"clntrace/collector/export"
	"clntrace/plugin"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run picks what to be and returns the exit status. What is asked for by name
// comes first, so that it works in a terminal that lightningd opened, too.
func run(args []string) int {
	var command string
	if len(args) > 0 {
		command = args[0]
	}
	_, underLightningd := os.LookupEnv("LIGHTNINGD_PLUGIN")
	switch {
	case command == "demo":
		return runDemo(args[1:])
	case command == demo.SenderCommand && len(args) == 2:
		return report(demo.Sender(args[1], os.Stdin))
	case command == "collect":
		return plugin.Collect(args[1:])
	case command == "--help", command == "-h", command == "help":
		fmt.Print(plugin.Help())
		return 0
	case command == "--version":
		fmt.Println(plugin.VersionLine())
		return 0
	case underLightningd:
		return plugin.Run(args)
	}
	fmt.Fprint(os.Stderr, plugin.NotByHand)
	return 2
}

// runDemo plays the demo until its end or a signal.
func runDemo(args []string) int {
	options := demo.Options{Version: plugin.Version(), Out: os.Stdout, Log: os.Stderr}
	flags := flag.NewFlagSet("clntrace demo", flag.ContinueOnError)
	flags.Func("otlp-endpoint", "send the spans to this `URL` instead of the demo's own receiver", func(s string) error {
		endpoint, err := export.ParseEndpoint(s)
		options.Endpoint = &endpoint
		return err
	})
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "clntrace demo: got %q, allowed is --otlp-endpoint=URL\n", flags.Arg(0))
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return report(demo.Run(ctx, options))
}

// report tells an error to the terminal and returns the exit status.
func report(err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "clntrace: %v\n", err)
		return 1
	}
	return 0
}
