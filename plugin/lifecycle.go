package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/elementsproject/glightning/glightning"

	"clntrace/collector"
	"clntrace/collector/stats"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

const (
	// shutdownTime bounds the export of what is left. lightningd waits for us, and
	// kills us after 30 s.
	shutdownTime = 5 * time.Second
	// farewellTime bounds each of the waits at the end for answers and log lines
	// that are under way. If lightningd reads at all, they are out at once.
	farewellTime = 200 * time.Millisecond
)

// spanCollector is what the plugin needs of a collector.
type spanCollector interface {
	Start(cfg collector.Config, problems []string)
	SetNode(n collector.Node)
	PreferReceiving()
	Reconfigure(cfg collector.Config, problems []string) error
	Stats(q stats.Query) stats.Report
	Shutdown(ctx context.Context) error
}

var _ spanCollector = (*collector.Collector)(nil)

// Run runs the plugin under lightningd, from before the first byte of the
// protocol to the end, and returns the exit status.
func Run(args []string) int {
	limitMemory()
	lines := newLogQueue()
	logger := lines.logger()
	// Bind before anything is answered: what lightningd and its plugins send from
	// here on waits in the socket.
	spans := collector.Open(socketOptions(os.LookupEnv, logger))

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
func socketOptions(lookup func(string) (string, bool), logger *slog.Logger) collector.Options {
	const remedy = " in lightningd's environment, so lightningd sends no spans." +
		" Set CLN_TRACE_SOCKET=/path/to.sock there (its systemd unit, container or shell, not its config) and restart the node"
	o := collector.Options{Version: Version(), Logger: logger, Voice: voice.Plugin}
	o.Lightningd = os.Getppid()
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
	nodeVersion string // lightningd's, if its environment says
	rpc         rpcTiming
	farewell    time.Duration // farewellTime, except in tests

	ending context.Context // done when the shutdown begins; its cause says why
	end    context.CancelCauseFunc
	work   sync.WaitGroup // goroutines beside the conversation

	turn     sync.Mutex // guards settings
	settings settings   // of init and the setconfigs since; before init, given is nil
}

func newPlugin(spans spanCollector, logger *slog.Logger) *plugin {
	p := &plugin{spans: spans, log: logger, getenv: os.Getenv, rpc: defaultRPCTiming, farewell: farewellTime}
	p.ending, p.end = context.WithCancelCause(context.Background())
	return p
}

// serve talks to lightningd until it sends shutdown or closes the pipe, or a
// signal comes. However the end begins, the shutdown is the same.
func (p *plugin) serve(in io.Reader, out io.Writer, lines *logQueue, signals <-chan os.Signal) int {
	w := newWire(out, p.log)
	go lines.run(w.notify)
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
	stopCollector(p.spans, p.log)
	within(p.farewell, hangUp)
	within(p.farewell, lines.close)
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
		statsMethod: func(params json.RawMessage) (any, error) { return answerStats(p.spans, params) },
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

// stopCollector shuts the collector down, and gives up a second after its time is
// over.
func stopCollector(spans spanCollector, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- spans.Shutdown(ctx) }()
	select {
	case err := <-stopped:
		if err != nil {
			logger.Warn(err.Error())
		}
	case <-time.After(shutdownTime + time.Second):
		logger.Error("stopping takes too long, giving up")
	}
}

// initParams is the part of init's parameters that is used.
type initParams struct {
	Options       map[string]json.RawMessage `json:"options"`
	Configuration struct {
		LightningDir string `json:"lightning-dir"` // that of the network
		RPCFile      string `json:"rpc-file"`
		Network      string `json:"network"`
	} `json:"configuration"`
}

// init starts the export. It never answers with an error, whatever the options
// are: the node must not lose the plugin, and with it the options in its
// configuration, over a typo.
func (p *plugin) init(params json.RawMessage) (any, error) {
	if p.settings.given != nil {
		return nil, errors.New("init: it was answered before")
	}
	var req initParams
	var problems []string
	if err := json.Unmarshal(params, &req); err != nil {
		problems = append(problems, text.ASCII(fmt.Sprintf("lightningd's init cannot be read (%v), allowed is what lightningd 26.06 sends", err)))
	}
	given, faults := givenOptions(req.Options)
	p.settings = settings{given: given, getenv: p.getenv, prefix: prefix, dir: req.Configuration.LightningDir}
	cfg, more := p.settings.resolve()
	problems = append(problems, sentences(append(faults, more...))...)
	for i, problem := range problems {
		if i == len(problems)-1 {
			problem += ". " + collector.UntilCorrected
		}
		p.log.Error(problem)
	}
	p.spans.Start(cfg, problems)
	if rpcFile := req.Configuration.RPCFile; rpcFile != "" {
		if !filepath.IsAbs(rpcFile) {
			rpcFile = filepath.Join(req.Configuration.LightningDir, rpcFile)
		}
		known := collector.Node{Network: req.Configuration.Network, Version: p.nodeVersion}
		p.work.Go(func() {
			p.identify(p.ending, rpcFile, known)
			// Not earlier: until then lightningd waits for our answers.
			if p.ending.Err() == nil {
				p.spans.PreferReceiving()
			}
		})
	}
	return struct{}{}, nil
}

// givenOptions returns the options of init by their names without prefix. One
// that is not in the table is skipped: it would be lightningd's mistake, not the
// operator's.
func givenOptions(raw map[string]json.RawMessage) (map[string]string, []fault) {
	given := make(map[string]string)
	var faults []fault
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		o, ok := optionNamed(strings.TrimPrefix(name, prefix))
		if !ok || string(raw[name]) == "null" {
			continue
		}
		value, err := scalar(raw[name])
		if err != nil {
			faults = append(faults, fault{o.name, name, o.refusal(name, shownValue(raw[name]), err)})
			continue
		}
		given[o.name] = value
	}
	return given, faults
}

// setConfig changes one option, or refuses to. lightningd writes what we accept
// into its own configuration.
func (p *plugin) setConfig(params json.RawMessage) (any, error) {
	changed, cfg, faults, err := p.changed("setconfig", params)
	if err != nil {
		return nil, err
	}
	if err := p.spans.Reconfigure(cfg, sentences(faults)); err != nil {
		return nil, errors.New(text.Sentence(err.Error()))
	}
	p.settings = changed
	return struct{}{}, nil
}

// changed returns the settings as they would be after a setconfig, the
// configuration that results, and the faults of other options. The error says why
// the change is refused.
func (p *plugin) changed(method string, params json.RawMessage) (settings, collector.Config, []fault, error) {
	fail := func(format string, args ...any) (settings, collector.Config, []fault, error) {
		return settings{}, collector.Config{}, nil, fmt.Errorf(format, args...)
	}
	given, err := nameParams(method, []string{"config", "val", "transient"}, params)
	if err != nil {
		return fail("%w", err)
	}
	name, err := scalar(given["config"])
	if err != nil {
		return fail("%s: config: %w", method, err)
	}
	o, ok := optionNamed(strings.TrimPrefix(name, prefix))
	if !ok || !strings.HasPrefix(name, prefix) {
		return fail("%s: '%s' is not an option of clntrace", method, text.Quotable(name))
	}
	if !o.dynamic {
		return fail("%s cannot change while the node runs; set it in lightningd's configuration and restart the node", name)
	}
	value, err := scalar(given["val"])
	if err != nil {
		return fail("%s: val: %w", name, err)
	}
	// A line break would add lines to lightningd's configuration file.
	if strings.ContainsFunc(value, unicode.IsControl) {
		return fail("%s", o.refusal(name, value, errors.New("allowed is text without control characters")))
	}
	next := p.settings
	next.given = maps.Clone(p.settings.given)
	if next.given == nil {
		return fail("%s: init has not come yet", method)
	}
	next.given[o.name] = value
	cfg, faults := next.resolve()
	for _, f := range faults {
		if f.option == o.name {
			return fail("%s", f.text)
		}
	}
	return next, cfg, faults, nil
}

// check says whether a setconfig or tracestats would be accepted, as lightningd
// does for its own commands.
func (p *plugin) check(params json.RawMessage) (any, error) {
	command, rest, err := checkedCommand(params)
	if err != nil {
		return nil, err
	}
	switch command {
	case "setconfig":
		_, _, _, err = p.changed(command, rest)
	case statsMethod:
		_, err = parseStats(rest)
	default:
		err = fmt.Errorf("check: '%s' is not a command of clntrace", text.Quotable(command))
	}
	if err != nil {
		return nil, err
	}
	return map[string]string{"command_to_check": command}, nil
}

// checkedCommand separates the command to check from its parameters.
func checkedCommand(params json.RawMessage) (string, json.RawMessage, error) {
	const field = "command_to_check"
	var command, rest json.RawMessage
	var byName map[string]json.RawMessage
	var byPosition []json.RawMessage
	var err error
	if json.Unmarshal(params, &byName) == nil {
		command = byName[field]
		delete(byName, field)
		rest, err = json.Marshal(byName)
	} else if json.Unmarshal(params, &byPosition) == nil && len(byPosition) > 0 {
		command = byPosition[0]
		rest, err = json.Marshal(byPosition[1:])
	}
	if err != nil {
		return "", nil, fmt.Errorf("check: %w", err)
	}
	name, err := scalar(command)
	if err != nil {
		return "", nil, errors.New("check: " + field + " is missing")
	}
	return name, rest, nil
}
