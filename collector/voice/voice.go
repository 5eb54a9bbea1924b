// Package voice knows how the things that a user can set, ask for or do are called
// where clntrace runs: in lightningd, as the collect command, or in the demo.
//
// Whatever speaks to users is handed a Voice and asks it for such names. So one
// sentence fits all three, and no text has to be changed after it was written.
package voice

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Voice names things for the users of one way to run clntrace. The zero Voice speaks
// as the plugin does, with option names that have no prefix.
type Voice struct {
	prefix string
	only   []string // the options that there are; nil: all

	// Statistics is what shows the statistics, as the subject of a sentence that goes
	// on in the singular: "tracestats".
	Statistics string
	// Ask says how to see the statistics, as a sentence of its own.
	Ask string
	// Configuration is where options are set: "in lightningd's configuration".
	Configuration string
	// Restart is what makes a changed option take effect: "restart the node".
	Restart string
	// Change is the command that changes some options without that: "setconfig". Empty:
	// there is none.
	Change string
	// now is the command that changes an option until the next start, with the option's
	// name in place of its %s. It writes nothing to config.setconfig, which would keep a
	// node from starting when clntrace is gone. Empty: there is none.
	now string
	// Directory is where files are by default: "lightningd's network directory".
	Directory string
	// Socket is what the socket's path is set with: "CLN_TRACE_SOCKET".
	Socket string
	// Elsewhere is how to have the socket at another path. It always helps.
	Elsewhere string
}

var (
	// Plugin speaks to the operator of a node.
	Plugin = Voice{
		prefix: "clntrace-", Statistics: "tracestats", Ask: "tracestats tells how it goes",
		Configuration: "in lightningd's configuration", Restart: "restart the node", Change: "setconfig",
		now:       "lightning-cli -k setconfig config=%s val=VALUE transient=true",
		Directory: "lightningd's network directory", Socket: "CLN_TRACE_SOCKET",
		Elsewhere: "set CLN_TRACE_SOCKET to another path in lightningd's environment and restart the node",
	}
	// Collect speaks to somebody who runs clntrace collect.
	Collect = Voice{
		prefix: "--", Statistics: "SIGUSR1", Ask: "SIGUSR1 prints statistics",
		Configuration: "on the command line", Restart: "start collect anew",
		Directory: "the working directory", Socket: "--socket",
		Elsewhere: "start collect with another --socket, and lightningd with the same CLN_TRACE_SOCKET",
	}
	// Demo speaks to somebody who tries clntrace demo.
	Demo = Voice{
		prefix: "--", only: []string{"otlp-endpoint"}, Statistics: "the table below", Ask: "the table below tells how it went",
		Configuration: "on the command line", Restart: "run the demo again",
		Directory: "the working directory", Socket: "TMPDIR",
		Elsewhere: "set TMPDIR to another directory and run the demo again",
	}
)

// Option is how the user writes the option with that name, which has no prefix:
// clntrace-otlp-endpoint, or --otlp-endpoint.
func (v Voice) Option(name string) string { return v.prefix + name }

// Correct says how to correct an option, as a sentence without its end. One that is
// dynamic may change without a restart.
func (v Voice) Correct(name string, dynamic bool) string {
	if dynamic && v.now != "" {
		return fmt.Sprintf("Correct it %s, and until the next restart with '"+v.now+"'", v.Configuration, v.Option(name))
	}
	return fmt.Sprintf("Correct it %s and %s", v.Configuration, v.Restart)
}

// Has reports whether there is an option with that name. If there is not, an advice
// to set it helps nobody.
func (v Voice) Has(name string) bool { return v.only == nil || slices.Contains(v.only, name) }

var (
	choice = regexp.MustCompile(`\[([^][|]*)\|([^][|]*)\]`)
	name   = regexp.MustCompile(`\{([a-z-]+)\}`)
)

// Say returns a text with options named as the user writes them, where the text has
// their names in braces. Of [this|that] it says this if there are all options in it, and
// that otherwise; {statistics} is Statistics.
func (v Voice) Say(text string) string {
	text = choice.ReplaceAllStringFunc(text, func(both string) string {
		this, that, _ := strings.Cut(both[1:len(both)-1], "|")
		for _, option := range name.FindAllStringSubmatch(this, -1) {
			if !v.Has(option[1]) {
				return that
			}
		}
		return this
	})
	return name.ReplaceAllStringFunc(text, func(braced string) string {
		if option := braced[1 : len(braced)-1]; option != "statistics" {
			return v.Option(option)
		}
		return v.Statistics
	})
}
