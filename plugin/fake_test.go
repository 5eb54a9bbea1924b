package plugin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clntrace/collector"
	"clntrace/collector/cln"
	"clntrace/collector/recorder"
	"clntrace/collector/stats"
)

// patience is how long a test waits for what should come at once.
const patience = time.Minute

// fakeCollector notes what it is told.
type fakeCollector struct {
	mu           sync.Mutex
	starts       []started
	reconfigures []started
	nodes        chan collector.Node
	shutdowns    chan struct{}
	stats        func(stats.Query) stats.Report
	traces       func(recorder.Query) (recorder.Answer, error)
	refuse       error // of Reconfigure
	preferred    atomic.Bool
	events       chan cln.Event
	malformed    atomic.Int64
	first        atomic.Uint64
}

type started struct {
	cfg      collector.Config
	problems []string
}

func newFakeCollector() *fakeCollector {
	return &fakeCollector{
		nodes:     make(chan collector.Node, 16),
		shutdowns: make(chan struct{}, 16),
		events:    make(chan cln.Event, 4096),
		traces:    func(recorder.Query) (recorder.Answer, error) { return recorder.List{}, nil },
		stats:     func(stats.Query) stats.Report { return stats.Report{Version: "test", Status: stats.StatusOK} },
	}
}

func (c *fakeCollector) Start(cfg collector.Config, problems []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.starts = append(c.starts, started{cfg, problems})
}

func (c *fakeCollector) Reconfigure(cfg collector.Config, problems []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return c.refuse
	}
	c.reconfigures = append(c.reconfigures, started{cfg, problems})
	return nil
}

func (c *fakeCollector) Notify(e cln.Event, _ time.Time) { c.events <- e }
func (c *fakeCollector) NotifyMalformed()                { c.malformed.Add(1) }
func (c *fakeCollector) FirstRequest(number uint64)      { c.first.Store(number) }

func (c *fakeCollector) PreferReceiving() { c.preferred.Store(true) }

func (c *fakeCollector) SetNode(n collector.Node)         { c.nodes <- n }
func (c *fakeCollector) Stats(q stats.Query) stats.Report { return c.stats(q) }
func (c *fakeCollector) Traces(q recorder.Query) (recorder.Answer, error) {
	return c.traces(q)
}
func (c *fakeCollector) Shutdown(ctx context.Context) error {
	c.shutdowns <- struct{}{}
	return ctx.Err()
}

func (c *fakeCollector) start(t *testing.T) started {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.starts) != 1 {
		t.Fatalf("the collector was started %d times", len(c.starts))
	}
	return c.starts[0]
}

// node is a lightningd as its plugin sees it: one end of two pipes.
type node struct {
	t       *testing.T
	plugin  *plugin
	spans   *fakeCollector
	stdin   *os.File
	stdout  *os.File
	answers chan string // everything on stdout that is no log line
	logs    chan string // "level message"
	signals chan os.Signal
	status  chan int
	asked   int
}

// startNode runs a plugin. What it writes is read until stdout closes, unless deaf.
func startNode(t *testing.T, deaf bool) *node {
	t.Helper()
	n := &node{
		t: t, spans: newFakeCollector(),
		answers: make(chan string, 1024), logs: make(chan string, 4096),
		signals: make(chan os.Signal, 1), status: make(chan int, 1),
	}
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	n.stdin, n.stdout = stdin, stdout
	lines := newLogQueue()
	n.plugin = newPlugin(n.spans, newLogger(lines))
	n.plugin.getenv = func(string) string { return "" }
	n.plugin.environ = func() []string { return nil }
	if !deaf {
		n.plugin.farewell = patience
	}
	go func() {
		n.status <- n.plugin.serve(in, out, lines, n.signals)
		out.Close()
	}()
	var reading sync.WaitGroup
	if !deaf {
		reading.Go(n.read)
	}
	t.Cleanup(func() {
		stdin.Close()
		if deaf {
			stdout.Close()
		}
		n.plugin.end(io.ErrClosedPipe)
		reading.Wait()
		stdout.Close()
		in.Close()
	})
	return n
}

func (n *node) read() {
	defer close(n.answers)
	r := bufio.NewReader(n.stdout)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		end, err := r.ReadString('\n')
		if err != nil || end != "\n" {
			n.t.Errorf("no blank line behind %q", line)
		}
		var note struct {
			Method string
			Params struct{ Level, Message string }
		}
		if err := json.Unmarshal([]byte(line), &note); err != nil {
			n.t.Errorf("not JSON on stdout: %q", line)
		}
		if note.Method == "log" {
			n.logs <- note.Params.Level + " " + note.Params.Message
		} else {
			n.answers <- strings.TrimSuffix(line, "\n")
		}
	}
}

// send writes raw bytes to the plugin.
func (n *node) send(raw string) {
	n.t.Helper()
	if _, err := io.WriteString(n.stdin, raw); err != nil {
		n.t.Fatal(err)
	}
}

// answer is the next thing that is no log line.
func (n *node) answer() string {
	n.t.Helper()
	select {
	case a, ok := <-n.answers:
		if !ok {
			n.t.Fatal("stdout was closed")
		}
		return a
	case <-time.After(patience):
		n.t.Fatal("no answer")
	}
	return ""
}

// ask calls a method and returns result and error message.
func (n *node) ask(method, params string) (result json.RawMessage, fail string) {
	n.t.Helper()
	n.asked++
	id := fmt.Sprintf(`"cli:%s#1/cln:%s#%d"`, method, method, n.asked)
	n.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":%s}`+"\n\n", id, method, params))
	var a struct {
		ID     json.RawMessage
		Result json.RawMessage
		Error  struct{ Message string }
	}
	text := n.answer()
	if err := json.Unmarshal([]byte(text), &a); err != nil || string(a.ID) != id {
		n.t.Fatalf("answer %s to request %s: %v", text, id, err)
	}
	return a.Result, a.Error.Message
}

// log waits for a log line that holds part.
func (n *node) log(part string) string {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case l := <-n.logs:
			if strings.Contains(l, part) {
				return l
			}
		case <-deadline:
			n.t.Fatalf("nothing was logged with %q", part)
		}
	}
}

// exit waits for the plugin's end.
func (n *node) exit() {
	n.t.Helper()
	select {
	case status := <-n.status:
		if status != 0 {
			n.t.Errorf("exit status %d", status)
		}
	case <-time.After(patience):
		n.t.Fatal("the plugin does not end")
	}
	if len(n.spans.shutdowns) != 1 {
		n.t.Errorf("the collector was shut down %d times", len(n.spans.shutdowns))
	}
}
