// Package voice knows how the things that a user can set, ask for or do are called
// where clntrace runs: in lightningd, as the collect command, or in the demo.
//
// Whatever speaks to users is handed a Voice and asks it for such names. So one
// sentence fits all three, and no text has to be changed after it was written.
package voice

import "slices"

// Voice names things for the users of one way to run clntrace. The zero Voice speaks
// as the plugin does, with option names that have no prefix.
type Voice struct {
	prefix string
	only   []string // the options that there are; nil: all

	// Statistics is what shows the statistics, as the subject of a sentence that goes
	// on in the singular: "tracestats".
	Statistics string
	// Configuration is where options are set: "lightningd's configuration".
	Configuration string
	// Restart is what makes a changed option take effect: "restart the node".
	Restart string
}

var (
	// Plugin speaks to the operator of a node.
	Plugin = Voice{
		prefix: "clntrace-", Statistics: "tracestats",
		Configuration: "lightningd's configuration", Restart: "restart the node",
	}
	// Collect speaks to somebody who runs clntrace collect.
	Collect = Voice{
		prefix: "--", Statistics: "SIGUSR1",
		Configuration: "the command line", Restart: "start collect anew",
	}
	// Demo speaks to somebody who tries clntrace demo.
	Demo = Voice{
		prefix: "--", only: []string{"otlp-endpoint"}, Statistics: "the table below",
		Configuration: "the command line", Restart: "run the demo again",
	}
)

// Option is how the user writes the option with that name, which has no prefix:
// clntrace-otlp-endpoint, or --otlp-endpoint.
func (v Voice) Option(name string) string { return v.prefix + name }

// Has reports whether there is an option with that name. If there is not, an advice
// to set it helps nobody.
func (v Voice) Has(name string) bool { return v.only == nil || slices.Contains(v.only, name) }
