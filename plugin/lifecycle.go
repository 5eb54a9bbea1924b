package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/elementsproject/glightning/glightning"

	"clntrace/collector"
	"clntrace/collector/options"
	"clntrace/collector/patient"
	"clntrace/collector/recorder"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

// farewellTime bounds each of the waits at the end for answers and log lines that
// are under way. If lightningd reads at all, they are out at once.
const farewellTime = 200 * time.Millisecond

// spanCollector is what the plugin needs of a collector.
type spanCollector interface {
	notices
	Start(cfg collector.Config, problems []string)
	SetNode(n collector.Node)
	PreferReceiving()
	Reconfigure(cfg collector.Config, problems []string) error
	Stats(q stats.Query) stats.Report
	Traces(q recorder.Query) (recorder.Answer, error)
	Shutdown(ctx context.Context) error
}

var _ spanCollector = (*collector.Collector)(nil)

// Run runs the plugin under lightningd, from before the first byte of the
// protocol to the end, and returns the exit status.
func Run(version string, args []string) int {
	lines := newLogQueue()
	logger := newLogger(lines)
	// Bind before anything is answered: what lightningd and its plugins send from
	// here on waits in the socket.
	spans := collector.Open(socketOptions(version, os.LookupEnv, logger))

	signal.Ignore(syscall.SIGPIPE)
	// SIGHUP tells lightningd to rotate its log, and may reach all its children.
	signal.Ignore(syscall.SIGHUP)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)

	stdout, err := claimStdout()
	if err != nil {
		stdout = os.Stdout
		logger.Warn("stdout could not be set apart for the protocol", "error", err)
	}
	nodeVersion := os.Getenv("LIGHTNINGD_VERSION")
	hideFromGlightning(logger)
	for _, arg := range args {
		// Only lightningd gets us here, and an argument that a later version adds
		// is no reason to fail the node's start.
		if arg != "--developer" && arg != "--dev-debug-self" {
			logger.Info("an unknown argument was ignored", "argument", arg)
		}
	}
	p := newPlugin(spans, logger)
	p.nodeVersion = nodeVersion
	return p.serve(os.Stdin, stdout, lines, signals)
}

// socketOptions says where to listen, or why we cannot know.
func socketOptions(version string, lookup func(string) (string, bool), logger *slog.Logger) collector.Options {
	const remedy = " in lightningd's environment, so lightningd sends no spans." +
		" Set CLN_TRACE_SOCKET=/path/to.sock there (its systemd unit, container or shell, not its config) and restart the node"
	o := collector.Options{Version: version, Voice: voice.Plugin, Logger: logger}
	o.Lightningd, o.Notified = os.Getppid(), true
	o.TraceParent, _ = lookup("CLN_TRACEPARENT")
	path, set := lookup("CLN_TRACE_SOCKET")
	switch {
	case !set:
		o.SocketProblem = "CLN_TRACE_SOCKET is not set" + remedy
	case path == "":
		o.SocketProblem = "CLN_TRACE_SOCKET is empty" + remedy
	default:
		o.SocketPath = path
	}
	return o
}

// hideFromGlightning removes the variables that would make glightning pipe the
// output of package log through a scanner that ends the process at a long line,
// or log whole messages, headers included.
func hideFromGlightning(logger *slog.Logger) {
	for _, name := range []string{"LIGHTNINGD_PLUGIN", "GOLIGHT_DEBUG_IO", "GOLIGHT_DEBUG_IO_IN",
		"GOLIGHT_STRICT_MODE", "GOLIGHT_DEBUG_LOGFILE"} {
		os.Unsetenv(name)
	}
	log.SetFlags(0)
	log.SetOutput(debugWriter{logger})
}

// plugin answers lightningd.
type plugin struct {
	spans       spanCollector
	log         *slog.Logger
	getenv      func(string) string
	environ     func() []string
	nodeVersion string // lightningd's, if its environment says
	rpc         rpcTiming
	farewell    time.Duration // farewellTime, except in tests
	leftovers   leftovers

	ending context.Context // done when the shutdown begins; its cause says why
	end    context.CancelCauseFunc
	work   sync.WaitGroup // goroutines beside the conversation

	turn     sync.Mutex       // guards settings
	settings options.Settings // of init and the setconfigs since; before init, Given is nil
}

func newPlugin(spans spanCollector, logger *slog.Logger) *plugin {
	p := &plugin{spans: spans, log: logger, getenv: os.Getenv, environ: os.Environ, rpc: defaultRPCTiming, farewell: farewellTime}
	p.ending, p.end = context.WithCancelCause(context.Background())
	return p
}

// serve talks to lightningd until it sends shutdown or closes the pipe, or a
// signal comes. However the end begins, the shutdown is the same.
func (p *plugin) serve(in io.Reader, out io.Writer, lines *patient.Queue[logLine], signals <-chan os.Signal) int {
	w := newWire(out, p.log)
	w.notices = p.spans
	go passLog(lines, w.notify)
	hangUp, err := p.converse(w, in)
	if err != nil {
		p.log.Error("the conversation with lightningd cannot begin", "error", err)
		p.end(err)
	}
	select {
	case s := <-signals:
		p.end(fmt.Errorf("signal %v", s))
	case <-p.ending.Done():
	}
	p.log.Info("stopping", "because", context.Cause(p.ending))
	within(p.farewell, w.drain)
	collector.Stop(p.spans, p.log)
	within(p.farewell, hangUp)
	within(p.farewell, lines.Close)
	return 0
}

// within calls f with a context that ends after d.
func within(d time.Duration, f func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	f(ctx)
}

// converse starts glightning between the two directions of w. hangUp ends what
// can be ended and waits for that until its context is done. glightning's writer
// goroutine stays: once stopped, it would panic on a late answer.
func (p *plugin) converse(w *wire, in io.Reader) (hangUp func(context.Context), err error) {
	g := glightning.NewPlugin(func(*glightning.Plugin, map[string]glightning.Option, *glightning.Config) {})
	if err := register(g, p.log, p.methods()); err != nil {
		return func(context.Context) {}, fmt.Errorf("registering with glightning: %w", err)
	}
	requests, toGlightning, err := os.Pipe()
	if err != nil {
		return func(context.Context) {}, err
	}
	answers, fromGlightning, err := os.Pipe()
	if err != nil {
		return func(context.Context) {}, errors.Join(err, requests.Close(), toGlightning.Close())
	}
	go func() {
		err := w.inbound(in, toGlightning)
		if errors.Is(err, io.EOF) {
			err = errors.New("end of input")
		}
		p.end(err)
	}()
	p.work.Go(func() { _ = w.outbound(answers) }) // ends when hangUp closes the pipe
	p.work.Go(func() { _ = g.Start(requests, fromGlightning) })
	return func(ctx context.Context) {
		// glightning sees the end of its input. An error would make it end the
		// process.
		toGlightning.Close()
		fromGlightning.Close()
		ended := make(chan struct{})
		go func() {
			p.work.Wait()
			requests.Close()
			answers.Close()
			close(ended)
		}()
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}, nil
}

// methods are what lightningd may call.
func (p *plugin) methods() map[string]func(json.RawMessage) (any, error) {
	return map[string]func(json.RawMessage) (any, error){
		"getmanifest": func(json.RawMessage) (any, error) { return newManifest(), nil },
		"init":        p.inTurn(p.init),
		"setconfig":   p.inTurn(p.setConfig),
		"check":       p.inTurn(p.check),
		"shutdown": func(json.RawMessage) (any, error) {
			p.end(errors.New("lightningd asked for it"))
			return struct{}{}, nil
		},
		statsMethod:  func(params json.RawMessage) (any, error) { return p.answerStats(params) },
		tracesMethod: func(params json.RawMessage) (any, error) { return answerTraces(p.spans, params) },
	}
}

// inTurn guards the settings. The wire passes on one request at a time, but
// through a pipe, which does not synchronize memory between goroutines.
func (p *plugin) inTurn(serve func(json.RawMessage) (any, error)) func(json.RawMessage) (any, error) {
	return func(params json.RawMessage) (any, error) {
		p.turn.Lock()
		defer p.turn.Unlock()
		return serve(params)
	}
}
