// Package collect is the collector without lightningd: a command for a container that
// shares the volume of the node's socket.
//
// It takes options from the command line, receives and exports until a signal comes,
// and prints the tables of tracestats at the end and when it is asked to.
package collect

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"clntrace/collector"
	"clntrace/collector/options"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

// Help is the text of collect --help.
func Help() string {
	return "Usage: clntrace collect --socket=PATH [options]\n\n" +
		"Receives spans at PATH and exports them, without lightningd. SIGUSR1 prints the\n" +
		"statistics; SIGINT, SIGTERM and SIGHUP end it, after what is left has been sent.\n\n  --socket=string\n" +
		"      The socket's path: what CLN_TRACE_SOCKET is in lightningd's environment\n" + options.Help(voice.Collect)
}

// query asks for what the statistics show.
var query = stats.Query{Limit: tableRows, Sort: stats.SortTotal}

const (
	// tableRows is how many operations the statistics show.
	tableRows = 20
	// flushTime is for writing the last tables, and again for the last log lines.
	flushTime = time.Second
)

// Main runs the collect command, until a signal ends it, and returns the exit status.
func Main(version string, args []string) int {
	parsed, err := parse(args, os.Getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(Help())
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "clntrace collect: %s\n", strings.ReplaceAll(err.Error(), "\n", "\nclntrace collect: "))
		return 2
	}
	lines, tables := newOutput(), newOutput()
	logger := slog.New(slog.NewTextHandler(lines, nil))
	// A line about a line that could not be written could not be written either.
	go lines.copyTo(os.Stderr, func(error) {}, func(n uint64) { logger.Warn(fmt.Sprintf("%d log lines were dropped, because nobody read them", n)) })
	go tables.copyTo(os.Stdout, func(err error) { logger.Warn("printing the statistics failed", "error", err) },
		func(n uint64) {
			logger.Warn(fmt.Sprintf("statistics were dropped %d times, because nobody read them", n))
		})
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 8) // buffered, so that pending SIGUSR1s do not make us miss a SIGTERM
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it ignored
		signal.Notify(signals, syscall.SIGHUP)
	}
	speak := voice.Collect
	speak.Ask = fmt.Sprintf("'kill -USR1 %d' prints statistics", os.Getpid())
	spans := collector.Open(collector.Options{
		SocketPath: parsed.socket, Version: version, Voice: speak, Logger: logger,
	})
	if deaf := options.Deaf(os.Environ()); deaf != "" {
		logger.Info(deaf)
	}
	spans.PreferReceiving()
	spans.Start(parsed.config, nil)
	run(spans, logger, tables, signals)
	for _, o := range []output{tables, lines} {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		o.Close(ctx)
		cancel()
	}
	return 0
}

// spanCollector is what run needs of a collector.
type spanCollector interface {
	SetNode(n collector.Node)
	Stats(q stats.Query) stats.Report
	Shutdown(ctx context.Context) error
}

var _ spanCollector = (*collector.Collector)(nil)

// run receives until a signal other than SIGUSR1 comes. It prints the statistics
// at each SIGUSR1 and at the end.
func run(spans spanCollector, logger *slog.Logger, stdout io.Writer, signals <-chan os.Signal) {
	spans.SetNode(collector.Node{}) // there is nobody to ask, so spans need not wait
	for s := range signals {
		if s != syscall.SIGUSR1 {
			logger.Info("stopping", "because", fmt.Sprintf("signal %v", s))
			break
		}
		printStats(spans.Stats(query), logger, stdout)
	}
	listening := spans.Stats(stats.Query{}).Socket.State == "listening"
	collector.Stop(spans, logger)
	report := spans.Stats(query)
	if listening { // "not listening" would be a fault
		report.Socket.State = "stopped listening"
	}
	printStats(report, logger, stdout)
}

func printStats(report stats.Report, logger *slog.Logger, stdout io.Writer) {
	if err := report.WriteTable(stdout); err != nil {
		logger.Warn("printing the statistics failed", "error", err)
	}
}
