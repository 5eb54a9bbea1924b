// Command clntrace is a Core Lightning plugin that takes the node's trace spans
// to OTLP. This file only picks what to be; the tour of the code begins with
// package collector.
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

// run picks what to be and returns the exit status. What is asked for by name
// comes first, so that it works in a terminal that lightningd opened, too.
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

// underLightningd tells whether lightningd runs us: it says so, and talks
// through a pipe. A shell that it has opened says so, too, on a terminal.
func underLightningd() bool {
	_, said := os.LookupEnv("LIGHTNINGD_PLUGIN")
	stdin, err := os.Stdin.Stat()
	return said && (err != nil || stdin.Mode()&os.ModeCharDevice == 0)
}

// report tells an error to the terminal and returns the exit status.
func report(err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "clntrace: %v\n", err)
		return 1
	}
	return 0
}
