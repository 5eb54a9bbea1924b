package plugin

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"clntrace/collector"
	"clntrace/collector/stats"
)

// collectArgs is the command line of collect.
type collectArgs struct {
	socket string
	config collector.Config
}

// parseCollect reads the command line of collect; its errors name every fault at once.
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
	if err := flags.Parse(args); err != nil {
		return parsed, err
	}
	cfg, faults := s.resolve()
	problems := sentences(faults)
	if parsed.socket == "" {
		problems = append(problems, "--socket: not given, allowed is the path of the socket, the CLN_TRACE_SOCKET of lightningd")
	}
	if flags.NArg() > 0 {
		problems = append(problems, fmt.Sprintf("got '%s', allowed are options only", show(flags.Arg(0))))
	}
	if len(problems) > 0 {
		return parsed, errors.New(strings.Join(problems, "\n"))
	}
	parsed.config = cfg
	return parsed, nil
}

// collectHelp is the text of collect --help.
func collectHelp() string {
	return "Usage: clntrace collect --socket=PATH [options]\n\n" +
		"Receives spans at PATH and exports them, without lightningd. SIGUSR1 prints the\n" +
		"statistics, SIGINT and SIGTERM end it.\n\n  --socket=string\n" +
		"      The socket's path: what CLN_TRACE_SOCKET is in lightningd's environment\n" + optionHelp("--")
}

// Collect is the collect command: the collector without lightningd. It returns
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
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 8) // room, so that a SIGUSR1 not yet served does not displace a SIGTERM
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	spans := collector.Open(collector.Options{
		SocketPath: parsed.socket, Version: Version(), Logger: logger,
	})
	spans.PreferReceiving()
	spans.Start(parsed.config, nil)
	collect(spans, logger, os.Stdout, signals)
	return 0
}

// collect runs until a signal to stop comes, and prints the statistics at each
// other signal and at the end.
func collect(spans spanCollector, logger *slog.Logger, stdout io.Writer, signals <-chan os.Signal) {
	spans.SetNode(collector.Node{}) // there is nobody to ask: nothing to wait for
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
	if err := report.WriteTable(stdout); err != nil {
		logger.Warn("printing the statistics failed", "error", err)
	}
}
