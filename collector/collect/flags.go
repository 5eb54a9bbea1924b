package collect

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"clntrace/collector/options"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

// arguments are what the command line of collect says.
type arguments struct {
	socket string
	config options.Config
}

// parse reads the command line of collect. Its error lists all faults at
// once, a line for each.
func parse(args []string, getenv func(string) string) (arguments, error) {
	var parsed arguments
	s := options.Settings{Given: make(map[string]string), Getenv: getenv, Voice: voice.Collect}
	flags := flag.NewFlagSet("collect", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&parsed.socket, "socket", "", "")
	for _, o := range options.All() {
		keep := func(value string) error { s.Given[o.Name] = value; return nil }
		if o.Kind == options.Flag || o.Kind == options.Bool {
			flags.BoolFunc(o.Name, "", keep)
		} else {
			flags.Func(o.Name, "", keep)
		}
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return parsed, err
	} else if err != nil {
		return parsed, flagError(flags, args)
	}
	cfg, faults := s.Resolve()
	var problems []string
	for _, f := range faults {
		problems = append(problems, f.Text)
	}
	if parsed.socket == "" {
		problems = append(problems, "--socket: not given, allowed is the path that CLN_TRACE_SOCKET has in lightningd's environment")
	}
	if flags.NArg() > 0 {
		problems = append(problems, fmt.Sprintf("got '%s', allowed are options only", text.Quotable(flags.Arg(0))))
	}
	if len(problems) > 0 {
		return parsed, errors.New(strings.Join(problems, "\n"))
	}
	parsed.config = cfg
	return parsed, nil
}

// flagError says what is wrong with the argument at which flags gave up. If it
// does not look like an option at all, flags has left it among the rest;
// otherwise it is the last argument that was consumed.
func flagError(flags *flag.FlagSet, args []string) error {
	if next := flags.Arg(0); strings.HasPrefix(next, "---") || strings.HasPrefix(strings.TrimLeft(next, "-"), "=") {
		return fmt.Errorf("got '%s', allowed are options such as --socket=PATH", text.Quotable(next))
	}
	arg := args[len(args)-flags.NArg()-1]
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	short := strings.TrimPrefix(name, voice.Plugin.Option(""))
	switch {
	case flags.Lookup(name) != nil:
		return fmt.Errorf("--%s: has no value, allowed is --%s=VALUE", name, name)
	case flags.Lookup(short) != nil:
		return fmt.Errorf("--%s: allowed here is --%s", text.Quotable(name), short)
	}
	return fmt.Errorf("--%s: unknown, allowed is what 'clntrace collect --help' lists", text.Quotable(name))
}
