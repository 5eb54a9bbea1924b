// Command clntrace is a Core Lightning plugin that exports the node's trace
// spans over OTLP. This file only picks a command; the tour of the code begins
// with package collector.
package main

import (
	"fmt"
	"os"

	"clntrace/collector/demo"
	"clntrace/plugin"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run runs the command that args ask for and returns the exit status. Commands
// given by name come first, so that they also work in a shell that lightningd
// started, whose environment says LIGHTNINGD_PLUGIN.
func run(args []string) int {
	var command string
	if len(args) > 0 {
		command = args[0]
	}
	switch {
	case command == "demo":
		return demo.Main(plugin.Version(), args[1:])
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
	case underLightningd():
		return plugin.Run(args)
	}
	fmt.Fprint(os.Stderr, plugin.NotByHand(args))
	return 2
}

// underLightningd reports whether lightningd runs us as a plugin: it sets the
// variable and talks to us through a pipe. A shell that it started has the
// variable as well, but its input is a terminal.
func underLightningd() bool {
	_, said := os.LookupEnv("LIGHTNINGD_PLUGIN")
	stdin, err := os.Stdin.Stat()
	return said && (err != nil || stdin.Mode()&os.ModeCharDevice == 0)
}

// report writes an error to the terminal and returns the exit status.
func report(err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "clntrace: %v\n", err)
		return 1
	}
	return 0
}
