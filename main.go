// Command clntrace is a Core Lightning plugin that exports the node's trace
// spans over OTLP. This file only picks a command; the tour of the code begins
// with package collector.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"clntrace/collector/collect"
	"clntrace/collector/demo"
	"clntrace/collector/help"
	"clntrace/collector/options"
	"clntrace/collector/version"
	"clntrace/collector/voice"
	"clntrace/plugin"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run runs the command that args ask for and returns the exit status. Commands
// given by name come first, so that they also work in a shell that lightningd
// started, whose environment says LIGHTNINGD_PLUGIN.
func run(args []string) int {
	limitMemory()
	var command string
	if len(args) > 0 {
		command = args[0]
	}
	switch {
	case command == "demo":
		return demo.Main(version.Number(), args[1:])
	case command == demo.SenderCommand && len(args) == 2:
		return say("", demo.Sender(args[1], os.Stdin, os.Stdout), 1)
	case command == "collect":
		return collect.Main(version.Number(), args[1:])
	case command == "help", command == "--help", command == "-h":
		page, err := manual().Page(args[1:])
		return say(page, err, 2)
	case command == "version", command == "--version":
		return say(version.Line()+"\n", help.NoArguments("version", args[1:]), 2)
	case underLightningd():
		return plugin.Run(version.Number(), args)
	case len(args) == 0:
		return say(help.Short, nil, 0)
	}
	return say("", manual().Unknown(command), 2)
}

// manual is all that 'clntrace help' tells about.
func manual() help.Manual {
	return help.Manual{
		{Name: "demo", Text: demo.Help},
		{Name: "collect", Text: collect.Help()},
		{Name: "version", Text: "Usage: clntrace version\n\nPrints version, commit and Go version.\n"},
		{Name: "options", Text: options.Manual()},
		{Name: "environment", Text: options.VariablesHelp(voice.Plugin)},
		{Name: "tracestats", Text: plugin.StatsHelp},
		{Name: "listtraces", Text: plugin.TracesHelp},
	}
}

// say prints a text, or an error if there is one, and returns the exit status: that
// of an error is failed.
func say(text string, err error, failed int) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "clntrace: %v\n", err)
		return failed
	}
	fmt.Print(text)
	return 0
}

// memoryLimit is the size, in bytes, at which the garbage collector begins to
// work harder. We promise at most 128 MiB resident. When ring and queue are full
// some 50 MiB are live, and without a limit the heap could grow to twice that
// before it is collected. Lower limits cost noticeable time.
const memoryLimit = 88 << 20

// limitMemory sets the limit unless the operator has set another.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// underLightningd reports whether lightningd runs us as a plugin: it sets the
// variable and talks to us through a pipe. A shell that it started has the
// variable as well, but its input is a terminal.
func underLightningd() bool {
	_, said := os.LookupEnv("LIGHTNINGD_PLUGIN")
	stdin, err := os.Stdin.Stat()
	return said && (err != nil || stdin.Mode()&os.ModeCharDevice == 0)
}
