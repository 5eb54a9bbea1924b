package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/wait"
)

// With plugin start and a setconfig that is not transient, lightningd does not start
// again. clntrace says so in time, and both of its remedies help.
func TestLightningdStartsAgainIfTheWarningIsFollowed(t *testing.T) {
	h := newHome(t)
	n := h.start(t)
	for _, call := range []struct {
		method string
		params any
	}{
		{"plugin", object{"subcommand": "start", "plugin": clntrace}},
		{"setconfig", object{"config": "clntrace-otlp-endpoint", "val": "off", "transient": true}},
	} {
		if _, refused := n.call(t, call.method, call.params); refused != nil {
			t.Fatal(call.method, refused)
		}
	}
	time.Sleep(2 * time.Second) // for a false alarm
	if got := h.warned(t, n); got != "" {
		t.Errorf("a transient setconfig: %s", got)
	}
	if _, refused := n.call(t, "setconfig", object{"config": "clntrace-otlp-endpoint", "val": "off"}); refused != nil {
		t.Fatal(refused)
	}
	wait.For(t, "the warning", func() bool { return h.warned(t, n) != "" })
	want := []string{"line 2 of " + h.setconfig, "plugin=" + clntrace, h.config}
	for _, part := range want {
		if got := h.warned(t, n); !strings.Contains(got, part) {
			t.Errorf("without %q: %s", part, got)
		}
	}
	wait.For(t, "the log line", func() bool { return len(h.logged(t)) > 0 })
	h.stop(t, n)
	if out, err := h.command().CombinedOutput(); err == nil || !strings.Contains(string(out), "unknown option") {
		t.Fatalf("lightningd needs no warning: %v: %s", err, out)
	}

	edit(t, h.config, func(lines []string) []string { return append(lines, "plugin="+clntrace) })
	n = h.start(t)
	if got := h.warned(t, n); got != "" {
		t.Errorf("the plugin is named: %s", got)
	}
	edit(t, h.config, func(lines []string) []string { return without(lines, "plugin=") })
	wait.For(t, "the warning that the plugin was taken out of the configuration", func() bool { return h.warned(t, n) != "" })
	h.stop(t, n)

	edit(t, h.setconfig, func(lines []string) []string { return without(lines, "clntrace-") })
	n = h.start(t)
	if _, unknown := n.call(t, "tracestats", object{}); unknown == nil {
		t.Error("removed, and still there")
	}
	h.stop(t, n)
	if got := h.logged(t); len(got) > 2 { // two of the runs had reason to
		t.Errorf("logged %d times: %q", len(got), got)
	}
}

// home is the directory of a lightningd that starts several times.
type home struct {
	lightningd, fakechain, dir string
	config, setconfig          string // files that lightningd makes
	starts                     int
}

func newHome(t *testing.T) *home {
	t.Helper()
	h := &home{lightningd: findLightningd(t), dir: lightningdtest.Dir(t)}
	h.config = filepath.Join(h.dir, lightningdtest.Network, "config")
	h.setconfig = h.config + ".setconfig"
	var err error
	if h.fakechain, err = lightningdtest.BuildFakechain(h.dir); err != nil {
		t.Fatal(err)
	}
	return h
}

// command is lightningd without a word of clntrace.
func (h *home) command() *exec.Cmd {
	cmd := exec.Command(h.lightningd, "--network="+lightningdtest.Network, "--lightning-dir="+h.dir, "--offline", "--autolisten=false",
		"--log-file="+filepath.Join(h.dir, "log"), "--disable-plugin=bcli", "--plugin="+h.fakechain)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "CLN_TRACE_SOCKET="+filepath.Join(h.dir, "trace.sock"), lightningdtest.RaceDetector)
	return cmd
}

func (h *home) start(t *testing.T) *realNode {
	t.Helper()
	n := &realNode{dir: h.dir, exited: make(chan error, 1)}
	h.starts++
	cmd := h.command()
	cmd.Stdout, cmd.Stderr = &n.output, &n.output
	cmd.WaitDelay = time.Second // its plugins may outlive it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		n.exited <- cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // does nothing after stop
		<-exited
	})
	wait.For(t, "lightning-rpc", func() bool {
		select {
		case <-exited:
			t.Fatalf("lightningd does not start: %s", n.output.String())
		default:
		}
		return n.connect(t)
	})
	// lightningd answers early, but never answers a plugin start that comes too early.
	log := filepath.Join(h.dir, "log")
	wait.For(t, "the end of the start", func() bool {
		text, err := os.ReadFile(log)
		return err == nil && bytes.Count(text, []byte("Server started")) == h.starts
	})
	return n
}

func (h *home) stop(t *testing.T, n *realNode) {
	t.Helper()
	if _, refused := n.call(t, "stop", []any{}); refused != nil {
		t.Fatal(refused)
	}
	if err := <-n.exited; err != nil {
		t.Fatalf("lightningd: %v: %s", err, n.output.String())
	}
}

// doomed is in the warning.
const doomed = "The node will not start again"

// warned returns tracestats' warning, or "".
func (h *home) warned(t *testing.T, n *realNode) string {
	t.Helper()
	warnings := n.tracestats(t).Warnings
	if i := slices.IndexFunc(warnings, func(w string) bool { return strings.Contains(w, doomed) }); i >= 0 {
		return warnings[i]
	}
	return ""
}

// logged returns the lines of lightningd's log with the warning.
func (h *home) logged(t *testing.T) []string {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(h.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(strings.Lines(string(about(log, doomed))))
}

func edit(t *testing.T, path string, change func(lines []string) []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := change(strings.Split(strings.TrimRight(string(text), "\n"), "\n"))
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// without leaves out the lines that begin with prefix.
func without(lines []string, prefix string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, prefix) })
}
