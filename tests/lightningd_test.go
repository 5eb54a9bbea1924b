package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/wait"
)

// realNode is a lightningd, found in LIGHTNINGD or in the PATH.
type realNode struct {
	dir     string // lightning-dir
	socket  string
	rpc     *json.Encoder
	answers *json.Decoder
	exited  chan error
	output  lightningdtest.Buffer
}

func findLightningd(t *testing.T) string {
	t.Helper()
	path := os.Getenv("LIGHTNINGD")
	if path == "" {
		path, _ = exec.LookPath("lightningd")
	}
	if path == "" {
		t.Skip("no lightningd: put one in the PATH or name it in LIGHTNINGD to run this test")
	}
	return path
}

// TestLightningd runs the plugin under a real lightningd, with all of its
// own plugins, on a chain of one block.
func TestLightningd(t *testing.T) {
	lightningd := findLightningd(t)
	r := otlptest.Start(t)
	n := startReal(t, lightningd, r.GRPCEndpoint())

	// The start's own span is the last of a start. With the kernel's default
	// queue, lightningd may fail to send it, as any other.
	wait.For(t, "the start", func() bool { return started(r.Spans()) || n.tracestats(t).Socket.QueueFullEvents > 0 })
	names := map[string]bool{}
	wait.For(t, "spans of three different programs", func() bool {
		for _, p := range n.tracestats(t).Processes {
			names[p.Name] = true
		}
		return len(names) >= 3
	})
	if !names["lightningd"] {
		t.Errorf("no spans of lightningd: %v", names)
	}
	s := n.tracestats(t)
	if s.Status != "ok" || s.Socket.Path != n.socket || s.Datagrams.Malformed+s.Datagrams.Refused > 0 {
		t.Errorf("%+v", s)
	}
	t.Logf("%d datagrams of %v", s.Datagrams.Received, names)

	checkSetConfig(t, n, r)
	checkRefusal(t, n)
	checkStop(t, n)
}

// started reports whether the span of a start has come, from the right process.
func started(spans []otlptest.Span) bool {
	return slices.ContainsFunc(spans, func(s otlptest.Span) bool {
		return s.Name == "lightningd/startup" && s.Resource["service.name"] == "lightningd" && s.Resource["cln.network"] == "regtest"
	})
}

func startReal(t *testing.T, lightningd, endpoint string) *realNode {
	t.Helper()
	n := &realNode{dir: lightningdtest.Dir(t), exited: make(chan error, 1)}
	n.socket = filepath.Join(n.dir, "trace.sock")
	fakechain, err := lightningdtest.BuildFakechain(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(lightningd, "--network=regtest", "--lightning-dir="+n.dir,
		"--offline", "--autolisten=false", "--log-level=debug", "--log-file="+filepath.Join(n.dir, "log"),
		"--disable-plugin=bcli", "--plugin="+fakechain, "--plugin="+clntrace,
		"--clntrace-otlp-endpoint="+endpoint, "--clntrace-batch-delay=100ms")
	cmd.Env = append(os.Environ(), "CLN_TRACE_SOCKET="+n.socket, lightningdtest.RaceDetector)
	cmd.Dir = n.dir
	cmd.Stdout, cmd.Stderr = &n.output, &n.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { n.exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // does nothing after checkStop
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(n.dir, "log"))
			t.Logf("lightningd: %s\n%s", n.output.String(), about(log, "clntrace"))
		}
	})
	wait.For(t, "lightning-rpc", func() bool { return n.connect(t) })
	return n
}

// about returns the lines that contain what.
func about(log []byte, what string) []byte {
	var kept []byte
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte(what)) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// connect reports whether lightningd accepts connections for calls.
func (n *realNode) connect(t *testing.T) bool {
	t.Helper()
	conn, err := net.Dial("unix", filepath.Join(n.dir, "regtest", "lightning-rpc"))
	if err != nil {
		return false
	}
	t.Cleanup(func() { conn.Close() })
	n.rpc, n.answers = json.NewEncoder(conn), json.NewDecoder(conn)
	return true
}

// call calls lightningd, and through it the plugin.
func (n *realNode) call(t *testing.T, method string, params any) (json.RawMessage, *lightningdtest.RPCError) {
	t.Helper()
	if err := n.rpc.Encode(object{"jsonrpc": "2.0", "id": "<test>", "method": method, "params": params}); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Result json.RawMessage
		Error  *lightningdtest.RPCError
	}
	if err := n.answers.Decode(&answer); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return answer.Result, answer.Error
}

func (n *realNode) tracestats(t *testing.T) report {
	t.Helper()
	text, refused := n.call(t, "tracestats", object{})
	if refused != nil {
		t.Fatal(refused)
	}
	var r report
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("tracestats: %v in %s", err, text)
	}
	if err := r.identities(); err != nil {
		t.Error(err)
	}
	return r
}

func checkSetConfig(t *testing.T, n *realNode, r *otlptest.Receiver) {
	t.Helper()
	if _, refused := n.call(t, "setconfig", object{"config": "clntrace-sample-ratio", "val": "2"}); refused == nil {
		t.Error("lightningd took a sample ratio of 2")
	} else if !strings.Contains(refused.Message, "clntrace-sample-ratio") {
		t.Errorf("refusal without the option's name: %s", refused.Message)
	}
	if _, refused := n.call(t, "check", object{"command_to_check": "setconfig", "config": "clntrace-sample-ratio", "val": "2"}); refused == nil {
		t.Error("check let a sample ratio of 2 through")
	}
	if _, refused := n.call(t, "setconfig", object{"config": "clntrace-otlp-headers", "val": "x-token=s3cr3t"}); refused != nil {
		t.Errorf("setconfig of the headers: %v", refused)
	}
	configs, refused := n.call(t, "listconfigs", object{})
	if refused != nil {
		t.Fatal(refused)
	}
	if strings.Contains(string(configs), "s3cr3t") {
		t.Error("listconfigs shows the headers")
	}
	before := len(r.Requests())
	for _, request := range r.WaitRequests(t, before+1)[before:] { // the calls above are spans of their own
		if len(request.Metadata.Get("x-token")) == 0 {
			t.Log("a request that was under way has the old headers")
		}
	}
}

func checkRefusal(t *testing.T, n *realNode) {
	t.Helper()
	_, refused := n.call(t, "tracestats", object{"sort": `<"size">`})
	if refused == nil || !strings.Contains(refused.Message, "sort") || strings.Contains(refused.Message, "u003c") || refused.Code != -32602 {
		t.Errorf("a bad parameter: %+v", refused)
	}
}

// checkStop stops the node: the plugin exits in time and leaves no socket.
func checkStop(t *testing.T, n *realNode) {
	t.Helper()
	began := time.Now()
	if _, refused := n.call(t, "stop", []any{}); refused != nil {
		t.Fatal(refused)
	}
	select {
	case err := <-n.exited:
		if err != nil {
			t.Errorf("lightningd: %v", err)
		}
	case <-time.After(wait.Limit):
		t.Fatalf("lightningd still runs %v after stop", wait.Limit)
	}
	t.Logf("stopped in %v", time.Since(began))
	if left := look(t, n.socket); left != "nothing" {
		t.Errorf("left behind: %s", left)
	}
	log, err := os.ReadFile(filepath.Join(n.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	// lightningd itself logs what setconfig sets, headers too.
	own := about(log, "plugin-"+filepath.Base(clntrace)+":")
	for _, bad := range []string{"failed to self-terminate", "**BROKEN**", "s3cr3t", "u003c"} {
		if lines := about(own, bad); len(lines) > 0 {
			t.Errorf("lightningd's log: %s", lines)
		}
	}
}

// An important plugin that dies takes the node with it, and one that cannot
// bind must not: the node comes first.
func TestLightningdStartsWithoutASocket(t *testing.T) {
	lightningd := findLightningd(t)
	dir := lightningdtest.Dir(t)
	fakechain, err := lightningdtest.BuildFakechain(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := &realNode{dir: dir, exited: make(chan error, 1)}
	cmd := exec.Command(lightningd, "--network=regtest", "--lightning-dir="+dir, "--offline", "--autolisten=false",
		"--log-file="+filepath.Join(dir, "log"), "--disable-plugin=bcli", "--plugin="+fakechain,
		"--important-plugin="+clntrace, "--clntrace-sample-ratio=2")
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = &n.output, &n.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { n.exited <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	wait.For(t, "lightning-rpc", func() bool { return n.connect(t) })
	if s := n.tracestats(t); s.Status != "degraded" || len(s.Warnings) < 2 {
		t.Errorf("status %q, warnings %q", s.Status, s.Warnings)
	}
	if _, refused := n.call(t, "stop", []any{}); refused != nil {
		t.Fatal(refused)
	}
	if err := <-n.exited; err != nil {
		t.Error(fmt.Errorf("lightningd: %w", err))
	}
}
