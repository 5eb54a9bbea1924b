//go:build linux

package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// nodeUser is whom the recipes run the node and clntrace as.
const nodeUser = 1000

// mostMemory is the least limit of a recipe, and what clntrace takes at most, bytes.
const mostMemory = 128 << 20

// needNamespaces skips a test where it cannot make namespaces.
func needNamespaces(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "unshare", "--net", "--pid", "--fork",
		"sysctl", "-q", "-w", "net.unix.max_dgram_qlen=512").CombinedOutput(); err != nil {
		t.Skipf("skipped: no namespaces can be made here: %v: %s", err, out)
	}
}

// sidecar is a clntrace that runs as collect.
type sidecar struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	out    lightningdtest.Buffer
}

// startSidecar starts "clntrace collect" and waits until it listens. It ends, and has
// to end well, with the test. around is a command that runs it.
func startSidecar(t *testing.T, around []string, args ...string) *sidecar {
	t.Helper()
	dir := lightningdtest.Dir(t)
	s := &sidecar{t: t, socket: filepath.Join(dir, "trace.sock")}
	argv := slices.Concat(around, []string{clntrace, "collect", "--socket=" + s.socket, "--spool-dir=" + filepath.Join(dir, "spool")}, args)
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Dir = &s.out, &s.out, dir
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = s.cmd.Wait() // the exit status is in ProcessState
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(s.pid(), syscall.SIGTERM)
		<-exited
		if state := s.cmd.ProcessState; !state.Success() || t.Failed() {
			t.Errorf("%v: %s", state, s.out.String())
		}
	})
	wait.For(t, "the socket", func() bool {
		select {
		case <-exited:
			t.Fatalf("%v: %s", s.cmd.ProcessState, s.out.String())
		default:
		}
		_, err := os.Stat(s.socket)
		return err == nil
	})
	return s
}

// pid is that of clntrace: what runs it has replaced itself, or has it as its child.
func (s *sidecar) pid() int {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.cmd.Process.Pid))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(children))); err == nil {
		return pid
	}
	return s.cmd.Process.Pid
}

// senders are processes of the node.
func (s *sidecar) senders(names ...string) []*lightningdtest.Sender {
	s.t.Helper()
	all := lightningdtest.SendersTo(s.t, sender, s.socket)
	started := make([]*lightningdtest.Sender, len(names))
	for i, name := range names {
		started[i] = all.Start(name)
	}
	return started
}

// statistics asks clntrace for its tables and returns them.
func (s *sidecar) statistics() string {
	s.t.Helper()
	before := len(s.out.String())
	if err := syscall.Kill(s.pid(), syscall.SIGUSR1); err != nil {
		s.t.Fatal(err)
	}
	wait.For(s.t, "the statistics", func() bool { return strings.Contains(s.out.String()[before:], "export ") })
	return s.out.String()[before:]
}

// peak is the most memory that clntrace has taken so far, bytes, resident.
func (s *sidecar) peak() int64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return kib << 10
		}
	}
	s.t.Fatalf("no VmHWM in %s", text)
	return 0
}

// checkCollects runs the command line of a recipe, but for its paths and its
// endpoint, which are the test's own. memory is the recipe's limit, bytes.
func checkCollects(t *testing.T, argv []string, memory int64) {
	t.Helper()
	if len(argv) < 2 || filepath.Base(argv[0]) != "clntrace" || argv[1] != "collect" {
		t.Fatalf("the recipe runs %q", argv)
	}
	if memory < mostMemory {
		t.Errorf("the recipe allows %d MiB of memory", memory>>20)
	}
	own := func(arg string) bool {
		return strings.HasPrefix(arg, "--socket=") || strings.HasPrefix(arg, "--spool-dir=") || strings.HasPrefix(arg, "--otlp-endpoint=")
	}
	receiver := otlptest.Start(t)
	s := startSidecar(t, nil, append(slices.DeleteFunc(slices.Clone(argv[2:]), own), "--otlp-endpoint="+receiver.GRPCEndpoint())...)
	for i, name := range []string{"lightningd", "cln-xpay"} {
		if err := s.senders(name)[0].SendPatiently(recording.Numbered("extend_tip", i+1, 1)...); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, span := range receiver.WaitSpans(t, 2) {
		names = append(names, fmt.Sprint(span.Resource["service.name"]))
	}
	if slices.Sort(names); !slices.Equal(names, []string{"cln-xpay", "lightningd"}) {
		t.Errorf("the spans come from %v", names)
	}
	if output := s.out.String(); strings.Contains(output, "level=WARN") || strings.Contains(output, "level=ERROR") {
		t.Errorf("something is not as it should be: %s", output)
	}
}

// flagOf is the value of a command line's flag.
func flagOf(argv []string, name string) string {
	for _, arg := range argv {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return value
		}
	}
	return ""
}

// bytesOf reads a size as systemd, Docker or Kubernetes write it.
func bytesOf(t *testing.T, text string) int64 {
	t.Helper()
	if last := text[len(text)-1]; last == 'M' || last == 'm' {
		text = text[:len(text)-1] + "Mi"
	}
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		t.Fatal(err)
	}
	return quantity.Value()
}

// A flood with the endpoint away fills queue and spool. clntrace is still there, within
// its memory.
func TestSidecarInAFlood(t *testing.T) {
	t.Parallel()
	datagrams, err := recording.Load(recording.Startup)
	if err != nil {
		t.Fatal(err)
	}
	var payloads [][]byte
	for len(payloads) < 20_000 {
		for _, d := range datagrams {
			payloads = append(payloads, d.Payload)
		}
	}
	s := startSidecar(t, nil, "--otlp-endpoint=http://127.0.0.1:1")
	var all sync.WaitGroup
	for _, from := range s.senders("lightningd", "cln-xpay", "pay") {
		all.Go(func() {
			for range 3 {
				if err := from.SendPatiently(payloads...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	summary, _, _ := strings.Cut(s.statistics(), "\nPROCESS")
	peak := s.peak()
	t.Logf("peak memory %d MiB; %s", peak>>20, summary)
	if peak > mostMemory {
		t.Errorf("%d KiB of memory", peak>>10)
	}
}

// Where it stands in another pid namespace than the node, clntrace receives all
// and cannot tell from whom.
func TestSidecarWithoutSharedPIDs(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	receiver := otlptest.Start(t)
	s := startSidecar(t, []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}, "--spool-size=0", "--otlp-endpoint="+receiver.GRPCEndpoint())
	senders := s.senders("lightningd", "cln-xpay")
	for i, from := range senders {
		if err := from.SendPatiently(recording.Numbered("extend_tip", i+1, 1)...); err != nil {
			t.Fatal(err)
		}
	}
	for _, span := range receiver.WaitSpans(t, len(senders)) {
		if name, pid := span.Resource["service.name"], span.Resource["process.pid"]; name != "lightningd" || pid != nil {
			t.Errorf("service.name %v, process.pid %v", name, pid)
		}
	}
}

// Another user than clntrace's own is not heard, unless it is listed.
func TestSidecarOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("skipped: other users take root")
	}
	const other = nodeUser + 1
	for _, listed := range []bool{false, true} {
		t.Run(fmt.Sprintf("listed: %v", listed), func(t *testing.T) {
			t.Parallel()
			args := []string{"--spool-size=0", "--otlp-endpoint=off"}
			if listed {
				args = append(args, fmt.Sprintf("--allow-uids=%d", other))
			}
			s := startSidecar(t, nil, args...)
			if listed {
				wait.For(t, "the socket to be open to others", func() bool {
					info, err := os.Stat(s.socket)
					return err == nil && info.Mode().Perm() == 0o666
				})
			}
			from := lightningdtest.SendersTo(t, sender, s.socket).StartAs("lightningd", &syscall.Credential{Uid: other, Gid: other})
			errnos, err := from.Send(recording.Numbered("extend_tip", 1, 1)...)
			if err != nil {
				t.Fatal(err)
			}
			if heard := lightningdtest.Sent(errnos) == 1; heard != listed {
				t.Errorf("the kernel said %v", errnos)
			}
			counted := func() bool { return strings.Contains(s.statistics(), "extend_tip") }
			if listed {
				wait.For(t, "the span to be counted", counted)
			} else if counted() {
				t.Error("counted a span of a user who may not send")
			}
		})
	}
}

// The queue's limit is that of the network namespace in which clntrace makes
// its socket, wherever the node is.
func TestQueueIsThatOfTheReceiver(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	s := startSidecar(t, []string{"unshare", "--net", "sh", "-c", `sysctl -q -w net.unix.max_dgram_qlen=512 && exec "$@"`, "sh"},
		"--otlp-endpoint=off", "--spool-size=0")
	from := s.senders("lightningd")[0]
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const more = 2000 // than the limit
	errnos, err := from.Send(make([][]byte, more)...)
	if err != nil {
		t.Error(err)
	}
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	// The sender's own buffer ends it, long before the limit does.
	if sent := lightningdtest.Sent(errnos); sent <= 100 {
		t.Errorf("%d datagrams fit into the queue", sent)
	}
	if full := "the kernel's queue holds 513"; !strings.Contains(strings.Join(strings.Fields(s.statistics()), " "), full) {
		t.Errorf("want %q", full)
	}
}
