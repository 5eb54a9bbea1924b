package plugin

import (
	"fmt"

	"clntrace/collector/text"
)

// NotByHand is what a user gets who runs the plugin in a terminal: what it is and
// how to configure it.
func NotByHand(args []string) string {
	if len(args) > 0 {
		return fmt.Sprintf("clntrace has no command '%s'.\n\n", text.Quotable(args[0])) + notByHand
	}
	return notByHand
}

const notByHand = `clntrace is a plugin of Core Lightning: lightningd runs it.

In lightningd's config:      plugin=/path/to/clntrace
In lightningd's environment: CLN_TRACE_SOCKET=/path/to/trace.sock

See it work without a node:  clntrace demo
All options:                 clntrace --help
`

// Help is the text of --help.
func Help() string {
	return `clntrace receives the trace spans of Core Lightning, exports them over OTLP
and answers 'lightning-cli tracestats'.

As a plugin:
  plugin=/path/to/clntrace                in lightningd's config
  CLN_TRACE_SOCKET=/path/to/trace.sock    in lightningd's environment

By hand:
  clntrace demo [--otlp-endpoint=URL]     replay a recorded node as traces
  clntrace collect --socket=PATH [...]    receive and export without lightningd;
                                          options as below, without clntrace-
  clntrace --version
  clntrace --help

Options, in lightningd's config or on its command line:
` + optionHelp(prefix, func(doc string) string { return doc })
}
