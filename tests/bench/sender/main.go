//go:build linux

// Sender is a process that sends what the plan on its standard input says, as
// lightningd and its plugins send their spans.
package main

import (
	"fmt"
	"os"

	"clntrace/tests/bench/replay"
)

func main() {
	if err := replay.Serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
