package help

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"clntrace/collector/text"
)

// ParseFlags reads a command's arguments, which are options only. An error names the
// first argument that is wrong and the nearest help; it is flag.ErrHelp if somebody
// asked for that. No flag may refuse its value: then the error would be another.
func ParseFlags(flags *flag.FlagSet, args []string) error {
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return flagError(flags, args)
	case flags.NArg() > 0:
		return fmt.Errorf("'%s' is not an option; see 'clntrace help %s'", text.Quotable(flags.Arg(0)), flags.Name())
	}
	return nil
}

// flagError says what is wrong with the argument at which flags gave up. If it
// does not look like an option at all, flags has left it among the rest;
// otherwise it is the last argument that was consumed.
func flagError(flags *flag.FlagSet, args []string) error {
	seeCommand := "see 'clntrace help " + flags.Name() + "'"
	if next := flags.Arg(0); strings.HasPrefix(next, "---") || strings.HasPrefix(strings.TrimLeft(next, "-"), "=") {
		return fmt.Errorf("'%s' is not an option; %s", text.Quotable(next), seeCommand)
	}
	arg := args[len(args)-flags.NArg()-1]
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	if flags.Lookup(name) != nil {
		return fmt.Errorf("--%s: has no value, must be --%s=VALUE; %s", name, name, seeCommand)
	}
	var known []string
	flags.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
	if near, found := Nearest(optionName(name), known); found {
		return fmt.Errorf("--%s is not an option, --%s is; %s", text.Quotable(name), near, seeCommand)
	}
	return fmt.Errorf("--%s is not an option; %s", text.Quotable(name), seeCommand)
}
