// Package demo shows all of clntrace on a machine that has only Go: it replays a
// recorded start of lightningd and a payment, as real datagrams of real processes,
// through the same collector that the plugin uses, to an OTLP receiver.
//
// The package takes the two recordings and gives text: the traces that the
// receiver got, drawn as trees, and the tables of tracestats. It ends within
// seconds and leaves nothing behind.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"clntrace/collector"
	"clntrace/collector/cln"
	"clntrace/collector/otlp"
	"clntrace/collector/recorder"
	"clntrace/collector/recording"
	"clntrace/collector/socket"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

const (
	// patience bounds the whole demo, and exportTime the export at its end.
	patience   = 30 * time.Second
	exportTime = 5 * time.Second
	// answerTime is for one answer of the endpoint: less than exportTime, so that
	// the tables can say of one that hangs that it does.
	answerTime = 2 * time.Second
	// smallTrace is the size, in spans, up to which a trace is not drawn.
	smallTrace = 6
	// operationRows is how much of the operations is shown.
	operationRows = 12
	// traceRows is how many of the kept traces are listed.
	traceRows = 8
)

// intro says what the demo shows, and columns what is in its trees.
const (
	intro = "This is what clntrace makes of a recorded start of lightningd and a payment.\n\n"

	columns = `In a tree a row is a span: what was done, and in which process if there are
several; when it began, from the start of the trace; how long it took; and the
same as a bar. "answer" is how long a request waited after lightningd's work on
it.

`
)

// demoNode is the node that the demo pretends the spans are from.
var demoNode = collector.Node{ID: "0266e4598d1d3c415f572a8488830b60f7e744ed9235eb0b1ba93283b315c03518", Alias: "l1", Network: "regtest", Version: "v26.06.6", Database: "sqlite3"}

// options are those of the demo.
type options struct {
	version string
	// endpoint, if set, gets the spans instead of the demo's own receiver.
	endpoint *otlp.Endpoint
	// out gets the traces and tables, and log what the collector logs.
	out, log io.Writer
	// patience and exportTime are the constants of these names, except in tests.
	patience, exportTime time.Duration
}

// run runs the demo. An error can also mean that an endpoint did not take all
// spans; out has the tables even then, since they say why.
func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, o.patience)
	defer cancel()
	datagrams, err := recordings(time.Now())
	if err != nil {
		return err
	}
	cfg := collector.DefaultConfig()
	cfg.BatchDelay = 100 * time.Millisecond
	cfg.Timeout = answerTime
	cfg.SpoolSize = 0 // leave nothing behind
	var r *receiver
	if o.endpoint != nil {
		cfg.Endpoint = *o.endpoint
	} else {
		if r, err = listen(); err != nil {
			return err
		}
		defer r.server.Stop()
		if cfg.Endpoint, err = otlp.ParseEndpoint("http://" + r.addr); err != nil {
			return err
		}
	}
	shown, err := play(ctx, o, cfg, datagrams)
	if shown == nil {
		return err
	}
	fmt.Fprint(o.out, intro)
	if r != nil {
		fmt.Fprint(o.out, columns)
		err = errors.Join(err, writeReceived(o.out, r.received()))
	}
	fmt.Fprint(o.out, "What `lightning-cli tracestats format=table` shows (while the kernel's queue was\n"+
		"full the demo's senders waited; lightningd does not):\n\n")
	err = errors.Join(err, shown.report.WriteTable(o.out))
	fmt.Fprint(o.out, "\nWhat `lightning-cli listtraces format=table` shows; with id=... one of them is a\ntree:\n\n")
	err = errors.Join(err, shown.traces.WriteTable(o.out))
	fmt.Fprint(o.out, "\n"+whatNext(o, shown.traces, err))
	return err
}

// whatNext says what to do next.
func whatNext(o options, kept recorder.List, err error) string {
	switch {
	case err != nil:
		return "Not all went well: what is said of export and in the warnings above tells why.\n"
	case o.endpoint == nil:
		return "Next: 'clntrace demo --otlp-endpoint=http://host:4317' shows this in your\n" +
			"backend; 'clntrace help' tells how your own node does.\n"
	}
	text := "Next, look in your backend for\n"
	for _, t := range kept.Traces[:min(2, len(kept.Traces))] { // the start and the payment last longest
		operation := t.Span
		if operation == cln.SpanWhole {
			operation = t.Detail
		}
		text += fmt.Sprintf("  service %s, operation %s,\n    trace %s\n", t.Process, operation, t.TraceID)
	}
	return text
}

// writeReceived draws what the demo's own receiver got.
func writeReceived(w io.Writer, spans []span) error {
	list := traces(spans)
	small, err := writeTraces(w, list)
	fmt.Fprintf(w, "And %d traces of %d spans or fewer; %d spans in %d traces arrived.\n\n", small, smallTrace, len(spans), len(list))
	return err
}

// shown is what the collector says in the end.
type shown struct {
	report stats.Report
	traces recorder.List
}

// recordings returns all datagrams, with times as if they were sent just now.
func recordings(now time.Time) ([]recording.Datagram, error) {
	first, err := recording.Startup()
	if err != nil {
		return nil, err
	}
	second, err := recording.Xpay()
	if err != nil {
		return nil, err
	}
	const apart = time.Second
	shift(first, now.Add(-apart))
	shift(second, now)
	all := append(first, second...)
	renew(all)
	return all, nil
}

// play sends the datagrams through a collector and returns what it has to show, or
// nil if not all could be sent. Its directory is removed before anything is
// written, because the reader of the demo's output may leave at the first line.
func play(ctx context.Context, o options, cfg collector.Config, datagrams []recording.Datagram) (result *shown, err error) {
	dir, err := os.MkdirTemp("", "clntrace-demo-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the demo: %w; set TMPDIR to a directory where you may write", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "trace.sock")
	if len(path) > socket.MaxPath {
		return nil, fmt.Errorf("%s is too long for a socket; set TMPDIR to a directory with a shorter path", path)
	}
	c := collector.Open(collector.Options{
		SocketPath: path, Version: o.version, Voice: voice.Demo,
		Logger: slog.New(slog.NewTextHandler(o.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	c.Start(cfg, nil)
	c.SetNode(demoNode)
	s := &senders{dir: dir, socket: path, byPID: make(map[int]*sender)}
	played := errors.Join(s.play(ctx, c, datagrams), s.stop())
	listening := c.Stats(stats.Query{}).Socket
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.exportTime)
	defer cancel()
	lost := c.Shutdown(end)
	if played != nil {
		return nil, errors.Join(played, lost)
	}
	all := c.Stats(stats.Query{Limit: operationRows})
	all.Socket = listening // as a node's would still be
	answer, err := c.Traces(recorder.Query{Limit: traceRows})
	kept, _ := answer.(recorder.List) // without an id it is one
	return &shown{all, kept}, errors.Join(lost, err)
}

// play sends the datagrams and waits until c has them.
func (s *senders) play(ctx context.Context, c *collector.Collector, datagrams []recording.Datagram) error {
	for _, d := range datagrams {
		if err := s.send(ctx, d); err != nil {
			return err
		}
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		got := c.Stats(stats.Query{})
		if int(got.Datagrams.Accepted) == len(datagrams) { //nolint:gosec // hundreds
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d spans have arrived: %w", got.Datagrams.Accepted, len(datagrams), context.Cause(ctx))
		}
	}
}
