package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// byHand runs clntrace as a user would.
func byHand(t *testing.T, env []string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, clntrace, args...)
	cmd.Dir = lightningdtest.Dir(t)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "TMPDIR=" + cmd.Dir, lightningdtest.RaceDetector}, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var failure *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failure) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestByHand(t *testing.T) {
	for _, tc := range []struct {
		name           string
		args           []string
		exit           int
		stdout, stderr string // patterns; empty: nothing may be written
	}{
		{"nothing", nil, 0, `(?s)plugin.*CLN_TRACE_SOCKET`, ""},
		{"unknown argument", []string{"frobnicate"}, 2, "", `^clntrace: .*'frobnicate'; see 'clntrace help'\n$`},
		{"misspelt command", []string{"colect", "--socket=s"}, 2, "", `^clntrace: .*'colect'; see 'clntrace help collect'\n$`},
		{"version", []string{"--version"}, 0, `clntrace.*go1\.\d+`, ""},
		{"version as a word", []string{"version"}, 0, `^clntrace .*go1\.\d+`, ""},
		{"version of something", []string{"version", "all"}, 2, "", `^clntrace: version takes no 'all'`},
		{"help on a command", []string{"help", "collect"}, 0, `(?s)^Usage: clntrace collect.*SIGUSR1.*--otlp-endpoint`, ""},
		{"help on an option", []string{"help", "clntrace-sample-ratio"}, 0, `(?s)clntrace-sample-ratio.*--sample-ratio`, ""},
		{"help on lightning-cli's command", []string{"help", "tracestats"}, 0, `(?s)lightning-cli tracestats.*format`, ""},
		{"help on nothing known", []string{"help", "optoins"}, 2, "", `^clntrace: .*'optoins'; see 'clntrace help options'\n$`},
		{"unknown option of collect", []string{"collect", "--endpoint=off"}, 2, "", `^clntrace collect: --endpoint is not an option, --otlp-endpoint is; see 'clntrace help collect'\n$`},
		{"unknown option of demo", []string{"demo", "--ca-file=x"}, 2, "", `^clntrace demo: --ca-file is not an option; see 'clntrace help demo'\n$`},
		{"demo with a path, which gRPC has not", []string{"demo", "--otlp-endpoint=http://localhost:4318/v1/traces"}, 2, "", `path.*must be http://host:port`},
		{"help", []string{"--help"}, 0, `(?s)CLN_TRACE_SOCKET.*clntrace-otlp-endpoint|clntrace-otlp-endpoint.*CLN_TRACE_SOCKET`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(lightningdtest.Dir(t), "trace.sock")
			stdout, stderr, exit := byHand(t, []string{"CLN_TRACE_SOCKET=" + socket}, tc.args...)
			if exit != tc.exit {
				t.Errorf("exit status %d, want %d", exit, tc.exit)
			}
			for what, got := range map[string][2]string{"stdout": {stdout, tc.stdout}, "stderr": {stderr, tc.stderr}} {
				text, pattern := got[0], got[1]
				if pattern == "" && text != "" || pattern != "" && !regexp.MustCompile(pattern).MatchString(text) {
					t.Errorf("%s: want %q, got\n%s", what, pattern, text)
				}
			}
			if at := look(t, socket); at != "nothing" {
				t.Errorf("touched the socket: %s", at)
			}
		})
	}
}

// fits checks that nothing that is printed is wider than a terminal.
func fits(t *testing.T, printed string) {
	t.Helper()
	for line := range strings.Lines(printed) {
		if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > 80 {
			t.Errorf("wider than a terminal: %s", line)
		}
	}
}

// All that there is help on fits a terminal: the topics that the overview names, and
// each option.
func TestHelpFits(t *testing.T) {
	t.Parallel()
	overview, _, _ := byHand(t, nil, "help")
	fits(t, overview)
	_, list, found := strings.Cut(overview, "Help on: ")
	topics, _, ends := strings.Cut(list, ",\nor the name of an option")
	if !found || !ends {
		t.Fatalf("it names no topics:\n%s", overview)
	}
	asked := strings.Split(topics, ", ")
	options, _, _ := byHand(t, nil, "help", "options")
	for _, o := range regexp.MustCompile(`(?m)^  clntrace-([a-z-]+)`).FindAllStringSubmatch(options, -1) {
		asked = append(asked, o[1])
	}
	if len(asked) < 20 {
		t.Errorf("there is help on %v only", asked)
	}
	for _, a := range asked {
		page, errs, exit := byHand(t, nil, "help", a)
		if exit != 0 || page == "" {
			t.Errorf("help on %s: exit status %d, %s", a, exit, errs)
		}
		fits(t, page)
	}
}

// A live socket is another's: running clntrace by hand leaves it alone.
func TestByHandLeavesTheSocketAlone(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, nil)
	before := look(t, n.TraceSocket)
	if _, _, exit := byHand(t, []string{"CLN_TRACE_SOCKET=" + n.TraceSocket}); exit != 0 {
		t.Errorf("exit status %d", exit)
	}
	if after := look(t, n.TraceSocket); after != before {
		t.Errorf("socket was %s, is %s", before, after)
	}
	send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 1)...)
	r.WaitSpans(t, 1)
}

func TestDemo(t *testing.T) {
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprintf("receiver of its own: %v", own), func(t *testing.T) {
			t.Parallel()
			args := []string{"demo"}
			r := otlptest.Start(t)
			if !own {
				args = append(args, "--otlp-endpoint", r.GRPCEndpoint())
			}
			began := time.Now()
			stdout, stderr, exit := byHand(t, nil, args...)
			t.Logf("took %v", time.Since(began))
			if exit != 0 {
				t.Fatalf("exit status %d: %s", exit, stderr)
			}
			if !own {
				if got := len(r.Spans()); got < 700 { // a start-up and a payment
					t.Errorf("%d spans came", got)
				}
				return
			}
			fits(t, stdout)
			for _, shown := range []string{"lightningd/startup", "plugins/init", "cln-xpay", "cln-askrene", "getroutes"} {
				if !strings.Contains(stdout, shown) {
					t.Errorf("does not show %s:\n%s", shown, stdout)
				}
			}
		})
	}
}

// The tables are where the reason and the remedy stand, so they come also when
// the endpoint takes nothing, and within the same time.
func TestDemoWithoutAnEndpoint(t *testing.T) {
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // the kernel connects, nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hanging.Close() })
	for _, tc := range []struct{ name, endpoint, says string }{
		{"nobody listens", otlptest.Reserve(t).GRPCEndpoint(), "nothing is listening there"},
		{"it hangs", hanging.Addr().String(), "it did not answer in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			stdout, stderr, exit := byHand(t, nil, "demo", "--otlp-endpoint", tc.endpoint)
			if took := time.Since(began); took > 30*time.Second { // under 10 s, but for machines that do much else
				t.Errorf("took %v", took)
			}
			if exit != 1 || !strings.Contains(stderr, "782 spans are lost") {
				t.Errorf("exit status %d: %s", exit, stderr)
			}
			for _, shown := range []string{"backend_unreachable", tc.says, "760 accepted", "plugins/init"} {
				if !strings.Contains(strings.Join(strings.Fields(stdout), " "), shown) {
					t.Errorf("does not show %q:\n%s", shown, stdout)
				}
			}
			if strings.Contains(stdout+stderr, "clntrace-otlp") {
				t.Errorf("names an option that the demo does not have:\n%s%s", stdout, stderr)
			}
		})
	}
}

// Who reads the demo's output may go at the first line, as head does: then it
// has no chance to clean up any more.
func TestDemoLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := lightningdtest.Dir(t)
	cmd := exec.CommandContext(t.Context(), clntrace, "demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, lightningdtest.RaceDetector)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	cmd.Stdout = write
	err = cmd.Run()
	write.Close()
	var failure *exec.ExitError
	if !errors.As(err, &failure) || failure.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE {
		t.Errorf("ended with %v, want the signal for a pipe that nobody reads", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left %v behind (%v)", left, err)
	}
}

// What gathers a container's output can hang. collect receives and ends all the
// same.
func TestCollectWhoseOutputNobodyReads(t *testing.T) {
	t.Parallel()
	dir := lightningdtest.Dir(t)
	socket := filepath.Join(dir, "trace.sock")
	read, full, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); full.Close() })
	if err := full.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = full.Write(make([]byte, 1<<10))
	}
	r := otlptest.Start(t)
	collector, ended := startCollect(t, socket, full, "--otlp-endpoint", r.GRPCEndpoint(), "--batch-delay=10ms", "--spool-size=0")
	n := lightningdtest.Start(t, lightningdtest.Config{Plugin: clntrace, WithoutTraceSocket: true, TraceSocket: socket})
	send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 3)...)
	r.WaitSpans(t, 3)
	for _, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM} {
		if err := collector.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(wait.Limit):
		t.Fatalf("still runs %v later", wait.Limit)
	}
	if left := look(t, socket); left != "nothing" {
		t.Errorf("left behind: %s", left)
	}
}

// startCollect starts collect in the socket's directory, with stdout and stderr going
// to output, and waits for the socket. ended gets what the process ends with.
func startCollect(t *testing.T, socket string, output io.Writer, args ...string) (collector *os.Process, ended <-chan error) {
	t.Helper()
	dir := filepath.Dir(socket)
	cmd := exec.Command(clntrace, append([]string{"collect", "--socket", socket}, args...)...)
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, lightningdtest.RaceDetector}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() { end <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	wait.For(t, "the socket", func() bool { return look(t, socket) != "nothing" })
	return cmd.Process, end
}

func TestCollect(t *testing.T) {
	for _, end := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(end.String(), func(t *testing.T) {
			t.Parallel()
			dir := lightningdtest.Dir(t)
			socket := filepath.Join(dir, "trace.sock")
			r := otlptest.Start(t)
			var output lightningdtest.Buffer
			collector, ended := startCollect(t, socket, &output, "--otlp-endpoint", r.GRPCEndpoint(),
				"--group-requests=false", "--batch-delay", "50ms", "--service-namespace", "sidecar", "--spool-dir", filepath.Join(dir, "spool"))

			// A node of which only the senders are used: their plugin has no socket.
			n := lightningdtest.Start(t, lightningdtest.Config{Plugin: clntrace, WithoutTraceSocket: true, TraceSocket: socket})
			datagrams := load(t, recording.Xpay)
			n.Senders(sender).Replay(datagrams)
			for _, s := range r.WaitSpans(t, len(datagrams))[:1] {
				if s.Resource["service.namespace"] != "sidecar" {
					t.Errorf("resource %v", s.Resource)
				}
			}
			if err := collector.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			wait.For(t, "the tables", func() bool { return strings.Contains(output.String(), "UPDATE channels") })
			shown := len(output.String())
			if err := collector.Signal(end); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("%v: %s", err, output.String())
				}
			case <-time.After(wait.Limit):
				t.Fatalf("still runs %v later", wait.Limit)
			}
			if !strings.Contains(output.String()[shown:], "UPDATE channels") {
				t.Errorf("no tables at the end: %s", output.String()[shown:])
			}
			if left := look(t, socket); left != "nothing" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}
