// Package help is what clntrace says about itself to who runs it by hand.
package help

import (
	"fmt"
	"slices"
	"strings"

	"clntrace/collector/options"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

// Topic is something that there is help on: a command, or what its name says.
type Topic struct {
	Name string
	Text string // for a terminal, ends with a line break
}

// Short is for who runs clntrace without an argument: what it is and how to configure
// it.
const Short = `clntrace is a plugin of Core Lightning: lightningd runs it.

In lightningd's config:      plugin=/path/to/clntrace
In lightningd's environment: CLN_TRACE_SOCKET=/path/to/trace.sock

See it work without a node:  clntrace demo
All the rest:                clntrace help
`

const overview = `clntrace receives the trace spans of Core Lightning, exports them over OTLP and
answers 'lightning-cli tracestats' and 'lightning-cli listtraces'.

As a plugin:
  plugin=/path/to/clntrace                 in lightningd's config
  clntrace-otlp-endpoint=http://host:4317  there too; this host's by default
  CLN_TRACE_SOCKET=/path/to/trace.sock     in lightningd's environment

By hand:
  clntrace demo [--otlp-endpoint=URL]      replay a recorded node as traces
  clntrace collect --socket=PATH [...]     receive and export without lightningd
  clntrace version                         version, commit and Go version
  clntrace help [COMMAND, OPTION or TOPIC]

`

// Manual is all that there is help on, besides each option.
type Manual []Topic

// Page returns the help on what the words after "clntrace help" name, or the overview
// if there are none. An error names what is unknown and the nearest help.
func (m Manual) Page(words []string) (string, error) {
	if len(words) == 0 {
		var names []string
		for _, t := range m {
			names = append(names, t.Name)
		}
		return overview + "Help on: " + strings.Join(names, ", ") + ",\nor the name of an option.\n", nil
	}
	asked := strings.Join(words, " ")
	if i := slices.IndexFunc(m, func(t Topic) bool { return t.Name == asked }); i >= 0 {
		return m[i].Text, nil
	}
	if o, found := options.Named(optionName(asked)); found {
		return o.Help(voice.Plugin) + "\n  With clntrace collect: " + voice.Collect.Option(o.Name) + "\n", nil
	}
	return "", fmt.Errorf("there is no help on '%s'; see '%s'", text.Quotable(asked), m.Nearest(asked))
}

// Unknown says that there is no such command, and where to read on.
func (m Manual) Unknown(command string) error {
	return fmt.Errorf("there is no command '%s'; see '%s'", text.Quotable(command), m.Nearest(command))
}

// NoArguments returns an error if a command that takes no arguments got some.
func NoArguments(command string, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s takes no '%s'; see 'clntrace help %s'", command, text.Quotable(args[0]), command)
}

// Nearest is the command that shows the help on what was probably meant by a word:
// "clntrace help collect".
func (m Manual) Nearest(word string) string {
	var names []string
	for _, t := range m {
		names = append(names, t.Name)
	}
	for _, o := range options.All() {
		names = append(names, o.Name)
	}
	if near, found := Nearest(optionName(word), names); found {
		return "clntrace help " + near
	}
	return "clntrace help"
}

// optionName is an option's name without what users write before it.
func optionName(word string) string {
	return strings.TrimPrefix(strings.TrimLeft(word, "-"), voice.Plugin.Option(""))
}

// Nearest finds the name that a word was probably meant to be: one that differs in a
// third of its letters at most, or the only one that the word is a part of.
func Nearest(word string, names []string) (name string, found bool) {
	word = strings.ToLower(word)
	best := len(word)/3 + 1
	for _, candidate := range names {
		if d := distance(word, candidate); d < best {
			best, name = d, candidate
		}
	}
	if name != "" {
		return name, true
	}
	const tooShort = 3 // is a part of many
	if len(word) < tooShort {
		return "", false
	}
	holding := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.Contains(n, word) })
	if len(holding) == 1 {
		return holding[0], true
	}
	return "", false
}

// distance is how many letters have to be added, removed or replaced to make b of a
// (Levenshtein). The words are short, and it is needed once, so nobody's library.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j+1]+1, row[j]+1, replaced)
		}
	}
	return row[len(b)]
}
