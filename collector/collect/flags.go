package collect

import (
	"errors"
	"flag"
	"io"
	"strings"

	"clntrace/collector/help"
	"clntrace/collector/options"
	"clntrace/collector/socket"
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
	if err := help.ParseFlags(flags, args); err != nil {
		return parsed, err
	}
	cfg, faults := s.Resolve()
	var problems []string
	for _, f := range faults {
		problems = append(problems, f.Text)
	}
	if parsed.socket == "" {
		problems = append(problems, "--socket: not given, must be the path that CLN_TRACE_SOCKET has in lightningd's environment")
	}
	if err := socket.Hopeless(parsed.socket, voice.Collect); parsed.socket != "" && err != nil {
		problems = append(problems, "--socket: "+err.Error())
	}
	if len(problems) > 0 {
		return parsed, errors.New(strings.Join(problems, "\n"))
	}
	parsed.config = cfg
	return parsed, nil
}
