//go:build unix

// Sender is a process that sends trace datagrams to the socket that
// CLN_TRACE_SOCKET names, as lightningd and its plugins do, on orders from
// its standard input. Run under other names, it stands in for all of them.
package main

import (
	"fmt"
	"os"

	"clntrace/tests/lightningdtest/trace"
)

func main() {
	if err := trace.Serve(os.Getenv("CLN_TRACE_SOCKET"), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
