package lightningdtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"clntrace/tests/wait"
)

// Config says how to start a plugin. Only Plugin is required.
type Config struct {
	Plugin string   // the executable
	Args   []string // lightningd passes --developer, --dev-debug-self or nothing
	// LightningDir is lightningd's; empty: a new one.
	LightningDir string
	// TraceSocket is the value of CLN_TRACE_SOCKET; empty: trace.sock in the
	// network's directory.
	TraceSocket string
	// WithoutTraceSocket leaves CLN_TRACE_SOCKET out of the environment.
	WithoutTraceSocket bool
	Env                []string          // further variables
	Options            map[string]string // by name, as the user wrote them
	Wallet             string            // lightningd's wallet option; empty: not set
	// HoldRPC, if set, delays every answer of lightning-rpc until it is closed.
	HoldRPC <-chan struct{}
	// Credential, if set, is the user to run the plugin as. Needs root.
	Credential *syscall.Credential
}

// Node is a lightningd with one plugin.
type Node struct {
	// Dir is <lightning-dir>/<network>, the plugin's working directory.
	Dir string
	// TraceSocket is the value of CLN_TRACE_SOCKET.
	TraceSocket string

	t            testing.TB
	cfg          Config
	cmd          *exec.Cmd
	conversation *conversation
	output       *gate
	stderr       Buffer
	rpc          *rpcServer
	manifest     Manifest
	nextID       atomic.Int64
	exited       chan struct{}
}

// Start starts the plugin. It is as far as a plugin is before getmanifest. At
// the test's end the plugin is killed, if it still runs, and the test fails if
// it did what no plugin may.
func Start(t testing.TB, cfg Config) *Node {
	t.Helper()
	if cfg.LightningDir == "" {
		cfg.LightningDir = Dir(t)
	}
	n := &Node{Dir: filepath.Join(cfg.LightningDir, Network), TraceSocket: cfg.TraceSocket, t: t, cfg: cfg, exited: make(chan struct{})}
	if n.TraceSocket == "" {
		n.TraceSocket = filepath.Join(n.Dir, "trace.sock")
	}
	if err := os.MkdirAll(n.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if cfg.Credential != nil {
		if err := os.Chown(n.Dir, int(cfg.Credential.Uid), int(cfg.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	n.rpc = &rpcServer{dir: n.Dir, wallet: cfg.Wallet, hold: cfg.HoldRPC}
	rpcPath := filepath.Join(n.Dir, "lightning-rpc")
	_ = os.Remove(rpcPath) // an earlier life's, as in lightningd
	if err := serveRPC(rpcPath, n.rpc); err != nil {
		t.Fatal(err)
	}
	n.launch()
	t.Cleanup(n.end)
	return n
}

// Dir makes an empty directory whose path is short enough for a socket in it,
// which testing's is not always, and which other users may enter.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cln")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (n *Node) launch() {
	n.t.Helper()
	n.cmd = exec.Command(n.cfg.Plugin, n.cfg.Args...)
	n.cmd.Dir = n.Dir
	n.cmd.Env = n.environment()
	n.cmd.Stderr = &n.stderr
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: n.cfg.Credential}
	stdin, err := n.cmd.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.conversation, n.output = newConversation(stdin), newGate(stdout)
	go func() {
		defer close(n.exited)
		n.conversation.listen(n.output)
		_ = n.cmd.Wait() // the exit status is in ProcessState
	}()
}

// RaceDetector is the environment variable that keeps a program that was built
// with the race detector from sleeping for a second when it ends. It says
// nothing to others.
const RaceDetector = "GORACE=atexit_sleep_ms=0"

// environment is lightningd's own, with what it adds for its plugins.
func (n *Node) environment() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + n.cfg.LightningDir, "LANG=C.UTF-8",
		"LIGHTNINGD_PLUGIN=1", "LIGHTNINGD_VERSION=" + Version, RaceDetector,
	}
	if dir, ok := os.LookupEnv("GOCOVERDIR"); ok {
		env = append(env, "GOCOVERDIR="+dir)
	}
	if !n.cfg.WithoutTraceSocket {
		env = append(env, "CLN_TRACE_SOCKET="+n.TraceSocket)
	}
	return append(env, n.cfg.Env...)
}

// end is what every test ends with.
func (n *Node) end() {
	n.output.open()
	if !n.hasExited() {
		_ = n.cmd.Process.Kill()
	}
	<-n.exited
	n.rpc.close()
	for _, fault := range n.conversation.faultsSoFar() {
		n.t.Errorf("the plugin %s", fault)
	}
	for _, crash := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(n.Stderr(), crash) {
			n.t.Errorf("the plugin wrote %q to standard error", crash)
		}
	}
	if n.t.Failed() {
		for _, l := range n.Logs() {
			n.t.Logf("log: %s %s", l.Level, l.Message)
		}
		n.t.Logf("standard error: %s", n.Stderr())
	}
}

func (n *Node) hasExited() bool {
	select {
	case <-n.exited:
		return true
	default:
		return false
	}
}

// PID is the plugin's.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Shutdown announces the end. lightningd then waits 30 s for the plugin to exit.
func (n *Node) Shutdown() {
	n.t.Helper()
	if err := n.conversation.tell("shutdown", map[string]any{"shutdown": map[string]any{}}); err != nil {
		n.t.Fatalf("shutdown: %v", err)
	}
}

// CloseInput ends the plugin's standard input, as lightningd's death does.
func (n *Node) CloseInput() {
	n.t.Helper()
	if err := n.conversation.to.Close(); err != nil {
		n.t.Fatal(err)
	}
}

// Signal sends the plugin a signal.
func (n *Node) Signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
	if s == syscall.SIGSTOP {
		n.waitStopped()
	}
}

// waitStopped waits until all threads of the plugin have stopped: a signal is
// on its way for a while.
func (n *Node) waitStopped() {
	n.t.Helper()
	running := func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", n.PID()))
		if err != nil {
			n.t.Fatal(err)
		}
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err == nil && !strings.HasPrefix(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " T") {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(wait.Limit); running(); {
		if time.Now().After(deadline) {
			n.t.Fatal("the plugin does not stop")
		}
		runtime.Gosched()
	}
}

// WaitExit waits for the plugin's end and returns how it ended.
func (n *Node) WaitExit() *os.ProcessState {
	n.t.Helper()
	select {
	case <-n.exited:
		return n.cmd.ProcessState
	case <-time.After(wait.Limit):
		n.t.Fatalf("the plugin still runs %v later", wait.Limit)
		return nil
	}
}

// StopReading leaves what the plugin writes in the pipe until ResumeReading.
func (n *Node) StopReading() { n.output.shut() }

// ResumeReading undoes StopReading.
func (n *Node) ResumeReading() { n.output.open() }

// Logs are the plugin's log lines so far.
func (n *Node) Logs() []Log {
	n.conversation.mu.Lock()
	defer n.conversation.mu.Unlock()
	return slices.Clone(n.conversation.logs)
}

// WaitLog waits for a log line of that level with that text in it.
func (n *Node) WaitLog(level, text string) Log {
	n.t.Helper()
	timeout := time.After(wait.Limit)
	for {
		n.conversation.mu.Lock()
		logs, changed := slices.Clone(n.conversation.logs), n.conversation.changed
		n.conversation.mu.Unlock()
		for _, l := range logs {
			if l.Level == level && strings.Contains(l.Message, text) {
				return l
			}
		}
		select {
		case <-changed:
		case <-timeout:
			n.t.Fatalf("waited %v for a log line at %s with %q", wait.Limit, level, text)
		}
	}
}

// RPCCalls are the methods that the plugin called on lightning-rpc so far.
func (n *Node) RPCCalls() []string {
	n.rpc.mu.Lock()
	defer n.rpc.mu.Unlock()
	return slices.Clone(n.rpc.calls)
}

// Stderr is what the plugin wrote to standard error so far.
func (n *Node) Stderr() string { return n.stderr.String() }
