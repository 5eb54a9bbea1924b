// Package collect is the collector without lightningd: a command for a container that
// shares the volume of the node's socket.
//
// It takes options from the command line, receives and exports until a signal comes,
// and prints the tables of tracestats at the end and when it is asked to.
package collect

import (
	"bytes"
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
	"clntrace/collector/recorder"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

// Help is the text of collect --help.
func Help() string {
	return "Usage: clntrace collect --socket=PATH [options]\n\n" +
		"Receives spans at PATH and exports them, without lightningd. SIGUSR1 prints the\n" +
		"statistics, SIGUSR2 the slowest traces; SIGINT, SIGTERM and SIGHUP end it, after\n" +
		"what is left has been sent.\n\n  --socket=string\n" +
		"      The socket's path: what CLN_TRACE_SOCKET is in lightningd's environment\n" + options.Help(voice.Collect)
}

// query asks for what the statistics show.
var query = stats.Query{Limit: tableRows, Sort: stats.SortTotal}

const (
	// tableRows is how many operations the statistics show.
	tableRows = 20
	// traceRows is how many traces are listed, and traceTrees how many of them are
	// drawn: with a signal nobody can say which.
	traceRows, traceTrees = 20, 3
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
	signals := make(chan os.Signal, 8) // buffered, so that pending SIGUSR1s and SIGUSR2s do not make us miss a SIGTERM
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it ignored
		signal.Notify(signals, syscall.SIGHUP)
	}
	speak := voice.Collect
	speak.Ask = fmt.Sprintf("'kill -USR1 %d' prints statistics, -USR2 traces", os.Getpid())
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
	Traces(q recorder.Query) (recorder.Answer, error)
	Shutdown(ctx context.Context) error
}

var _ spanCollector = (*collector.Collector)(nil)

// run receives until a signal comes that ends it. It prints the statistics at each
// SIGUSR1 and at the end, and the slowest traces at each SIGUSR2.
func run(spans spanCollector, logger *slog.Logger, stdout io.Writer, signals <-chan os.Signal) {
	spans.SetNode(collector.Node{}) // there is nobody to ask, so spans need not wait
	for s := range signals {
		switch s {
		case syscall.SIGUSR1:
			printStats(spans.Stats(query), logger, stdout)
			continue
		case syscall.SIGUSR2:
			printTraces(spans, logger, stdout)
			continue
		}
		logger.Info("stopping", "because", fmt.Sprintf("signal %v", s))
		break
	}
	listening := spans.Stats(stats.Query{}).Socket.State == "listening"
	collector.Stop(spans, logger)
	report := spans.Stats(query)
	if listening { // "not listening" would be a fault
		report.Socket.State = "stopped listening"
	}
	printStats(report, logger, stdout)
}

// printTraces prints a list of the slowest traces, and draws the first of them.
func printTraces(spans spanCollector, logger *slog.Logger, stdout io.Writer) {
	answer, err := spans.Traces(recorder.Query{Limit: traceRows})
	if err != nil {
		logger.Info(err.Error())
		return
	}
	answers := []recorder.Answer{answer}
	if list, ok := answer.(recorder.List); ok {
		for _, t := range list.Traces[:min(len(list.Traces), traceTrees)] {
			if one, err := spans.Traces(recorder.Query{ID: t.TraceID}); err == nil { // else it is gone since
				answers = append(answers, one)
			}
		}
	}
	for _, a := range answers {
		var b bytes.Buffer
		if err := a.WriteTable(&b); err != nil {
			logger.Warn("printing the traces failed", "error", err)
		}
		b.WriteByte('\n')
		_, _ = stdout.Write(b.Bytes()) // never fails
	}
}

func printStats(report stats.Report, logger *slog.Logger, stdout io.Writer) {
	if err := report.WriteTable(stdout); err != nil {
		logger.Warn("printing the statistics failed", "error", err)
	}
}
