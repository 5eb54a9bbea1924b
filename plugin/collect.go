package plugin

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"clntrace/collector"
	"clntrace/collector/socket"
	"clntrace/collector/stats"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

// collectArgs is the command line of collect.
type collectArgs struct {
	socket string
	config collector.Config
}

// parseCollect reads the command line of collect. Its error lists all faults at
// once, a line for each.
func parseCollect(args []string, getenv func(string) string) (collectArgs, error) {
	var parsed collectArgs
	s := settings{given: make(map[string]string), getenv: getenv, prefix: "--"}
	flags := flag.NewFlagSet("collect", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&parsed.socket, "socket", "", "")
	for _, o := range options {
		keep := func(value string) error { s.given[o.name] = value; return nil }
		if o.kind == kindFlag || o.kind == kindBool {
			flags.BoolFunc(o.name, "", keep)
		} else {
			flags.Func(o.name, "", keep)
		}
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return parsed, err
	} else if err != nil {
		return parsed, flagError(flags, args)
	}
	cfg, faults := s.resolve()
	var problems []string
	for _, f := range faults {
		problems = append(problems, f.text)
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
	short := strings.TrimPrefix(name, prefix)
	switch {
	case flags.Lookup(name) != nil:
		return fmt.Errorf("--%s: has no value, allowed is --%s=VALUE", name, name)
	case flags.Lookup(short) != nil:
		return fmt.Errorf("--%s: allowed here is --%s", text.Quotable(name), short)
	}
	return fmt.Errorf("--%s: unknown, allowed is what 'clntrace collect --help' lists", text.Quotable(name))
}

// spoken rewords what the collector says for the command line of collect. The
// collector's texts name options and remedies as operators of the plugin know
// them.
var spoken = func() func(string) string {
	pairs := []string{
		socket.Elsewhere, "start collect with another --socket, and lightningd with the same CLN_TRACE_SOCKET",
		"the path in CLN_TRACE_SOCKET", "the path in --socket",
		" by clntrace, never in tracestats; lightningd itself logs what setconfig sets", ", never in the statistics",
		"in lightningd's network directory", "in the working directory",
		"in lightningd's configuration and restart the node", "and start collect anew",
		"tracestats tells how it goes", "SIGUSR1 prints how it goes",
		"tracestats counts", "the statistics count",
		"if tracestats is all you want", "if statistics are all you want",
	}
	names := slices.Clone(options)
	slices.SortFunc(names, func(a, b option) int { return len(b.name) - len(a.name) }) // so that a name wins over one that it begins with
	for _, o := range names {
		pairs = append(pairs, prefix+o.name, "--"+o.name)
	}
	return strings.NewReplacer(pairs...).Replace
}()

// spokenLog is the log of collect, with its messages and values reworded.
func spokenLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if value := a.Value.Any(); a.Value.Kind() == slog.KindString || value != nil && a.Value.Kind() == slog.KindAny {
			if _, leveled := value.(slog.Level); !leveled {
				a.Value = slog.StringValue(spoken(fmt.Sprint(value)))
			}
		}
		return a
	}}))
}

// collectHelp is the text of collect --help.
func collectHelp() string {
	return "Usage: clntrace collect --socket=PATH [options]\n\n" +
		"Receives spans at PATH and exports them, without lightningd. SIGUSR1 prints the\n" +
		"statistics, SIGINT and SIGTERM end it.\n\n  --socket=string\n" +
		"      The socket's path: what CLN_TRACE_SOCKET is in lightningd's environment\n" + optionHelp("--", spoken)
}

// lastWords is how long the last tables and the last log lines may each take.
const lastWords = time.Second

// Collect runs the collect command, the collector without lightningd, and returns
// the exit status.
func Collect(args []string) int {
	parsed, err := parseCollect(args, os.Getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(collectHelp())
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "clntrace collect cannot start:\n%v\n", err)
		return 2
	}
	limitMemory()
	lines := newOutlet(os.Stderr, nil) // of what goes wrong there nobody can be told
	logger := spokenLog(lines)
	tables := newOutlet(os.Stdout, func(err error) { logger.Warn("printing the statistics failed", "error", err) })
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 8) // buffered, so that pending SIGUSR1s do not make us miss a SIGTERM
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	spans := collector.Open(collector.Options{
		SocketPath: parsed.socket, Version: Version(), Logger: logger, Voice: voice.Collect,
	})
	spans.PreferReceiving()
	spans.Start(parsed.config, nil)
	collect(spans, logger, tables, signals)
	within(lastWords, tables.close)
	within(lastWords, lines.close)
	return 0
}

// collect runs until a signal other than SIGUSR1 comes. It prints the statistics
// at each SIGUSR1 and at the end.
func collect(spans spanCollector, logger *slog.Logger, stdout io.Writer, signals <-chan os.Signal) {
	spans.SetNode(collector.Node{}) // there is nobody to ask, so spans need not wait
	for s := range signals {
		if s != syscall.SIGUSR1 {
			logger.Info("stopping", "because", fmt.Sprintf("signal %v", s))
			break
		}
		printStats(spans, logger, stdout)
	}
	stopCollector(spans, logger)
	printStats(spans, logger, stdout)
}

func printStats(spans spanCollector, logger *slog.Logger, stdout io.Writer) {
	report := spans.Stats(stats.Query{Limit: defaultLimit, Sort: stats.SortTotal})
	for i, warning := range report.Warnings {
		report.Warnings[i] = spoken(warning)
	}
	report.Export.LastError = spoken(report.Export.LastError)
	if err := report.WriteTable(stdout); err != nil {
		logger.Warn("printing the statistics failed", "error", err)
	}
}
