//go:build linux

package deploy

import (
	"bytes"
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
)

// nodeUser is whom the recipes run the node and clntrace as.
const nodeUser = 1000

// container is how a recipe runs clntrace beside the node.
type container struct {
	argv    []string
	program string // where the executable is
	// directories are those that it may write; all else is read-only.
	directories []string
	memory      int64 // limit, bytes; 0: none
	// queue is net.unix.max_dgram_qlen in a network namespace of its own,
	// which reaches no endpoint; 0: the test's namespace.
	queue int
	// ownPIDs runs it in a pid namespace of its own, which no recipe does.
	ownPIDs bool
	// worldWritable makes the directories as a kubelet does: for everybody.
	worldWritable bool
}

// needNamespaces skips a test where it cannot make what a container is made of.
func needNamespaces(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces and other users take root")
	}
	if out, err := exec.CommandContext(t.Context(), "setpriv", "--no-new-privs", "unshare", "--mount", "--net", "--pid", "--fork",
		"sh", "-c", "mount --bind /tmp /tmp && sysctl -q -w net.unix.max_dgram_qlen=512").CombinedOutput(); err != nil {
		t.Skipf("no namespaces can be made here: %v: %s", err, out)
	}
}

// enter makes the container: a mount namespace whose root, read-only, holds the
// executable, /proc and the directories, and in it the user, without the right
// to gain others. What an engine adds is not there: its seccomp filter.
const enter = `set -e
[ -z "$CGROUP" ] || echo $$ > "$CGROUP/cgroup.procs"
[ "$QUEUE" = 0 ] || sysctl -q -w "net.unix.max_dgram_qlen=$QUEUE"
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
for d in $DIRECTORIES; do mount --bind "$SHARED$d" "$ROOT$d"; done
mount -o remount,bind,ro "$ROOT"
exec chroot --userspec=1000:1000 --groups= "$ROOT" "$@"`

// running is a container that runs.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	pid    int    // clntrace's, as the test sees it
	shared string // before the path of a directory: where the host has it
	cgroup string // of its memory; empty: none could be made
	out    lightningdtest.Buffer
}

// output is what it has written so far.
func (r *running) output() string { return r.out.String() }

// start starts the container and waits until clntrace listens. It ends with the test.
func (c container) start(t *testing.T, extra ...string) *running {
	t.Helper()
	needNamespaces(t)
	root := lightningdtest.Dir(t)
	r := &running{t: t, shared: lightningdtest.Dir(t)}
	c.populate(t, root, r.shared)
	args := []string{"--no-new-privs", "unshare", "--mount"}
	if c.ownPIDs {
		args = append(args, "--pid", "--fork", "--kill-child")
	}
	if c.queue > 0 {
		args = append(args, "--net")
	}
	args = slices.Concat(args, []string{"sh", "-c", enter, "sh"}, c.argv, extra)
	r.cmd = exec.Command("setpriv", args...)
	r.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "ROOT=" + root, "SHARED=" + r.shared, "DIRECTORIES=" + strings.Join(c.directories, " "),
		"QUEUE=" + strconv.Itoa(c.queue),
	}
	if c.memory > 0 {
		r.cgroup = memoryCgroup(t, c.memory)
		r.cmd.Env = append(r.cmd.Env, "CGROUP="+r.cgroup)
	}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = r.cmd.Wait() // the exit status is in ProcessState
	}()
	t.Cleanup(func() {
		if r.pid != 0 {
			_ = syscall.Kill(r.pid, syscall.SIGTERM)
		} else {
			_ = r.cmd.Process.Kill()
		}
		<-exited
		if state := r.cmd.ProcessState; !state.Success() {
			t.Errorf("%v: %s", state, r.output())
		}
		if t.Failed() {
			t.Log(r.output())
		}
	})
	waitFor(t, "the socket", func() bool {
		select {
		case <-exited:
			t.Fatalf("%v: %s", r.cmd.ProcessState, r.output())
		default:
		}
		_, err := os.Stat(r.socket(c))
		return err == nil
	})
	r.pid = r.find(c)
	return r
}

// populate makes the root directory and what is shared with the host.
func (c container) populate(t *testing.T, root, shared string) {
	t.Helper()
	program := filepath.Join(root, c.program)
	for _, dir := range append([]string{"/proc", filepath.Dir(c.program)}, c.directories...) {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := os.ReadFile(clntrace)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range c.directories {
		dir = filepath.Join(shared, dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if c.worldWritable {
			err = os.Chmod(dir, 0o777)
		} else {
			err = os.Chown(dir, nodeUser, nodeUser)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// socket is the socket's path on the host.
func (r *running) socket(c container) string {
	return filepath.Join(r.shared, flagOf(c.argv, "--socket"))
}

// find returns the pid of clntrace: all that was between it and the test has
// replaced itself, but for the parent that a new pid namespace needs.
func (r *running) find(c container) int {
	r.t.Helper()
	if !c.ownPIDs {
		return r.cmd.Process.Pid
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

// memoryCgroup makes a cgroup with a limit of its memory; "" where that is
// not possible.
func memoryCgroup(t *testing.T, limit int64) string {
	t.Helper()
	for _, version := range []struct{ parent, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max"},
	} {
		dir, err := os.MkdirTemp(version.parent, "clntrace")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil { // rmdir: what is in it are no files
				t.Error(err)
			}
		})
		limits, err := os.OpenFile(filepath.Join(dir, version.file), os.O_WRONLY, 0)
		if err != nil {
			continue // not a cgroup, or one without the controller
		}
		defer limits.Close()
		if _, err := fmt.Fprint(limits, limit); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	t.Log("without the memory limit: no cgroup can be made here")
	return ""
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

// senders are processes of the node, of a user.
func (r *running) senders(c container, uid uint32, names ...string) []*lightningdtest.Sender {
	r.t.Helper()
	all := lightningdtest.SendersTo(r.t, sender, r.socket(c))
	started := make([]*lightningdtest.Sender, len(names))
	for i, name := range names {
		started[i] = all.StartAs(name, &syscall.Credential{Uid: uid, Gid: uid})
	}
	return started
}

// statistics asks clntrace for its tables and returns them.
func (r *running) statistics() string {
	r.t.Helper()
	before := len(r.output())
	if err := syscall.Kill(r.pid, syscall.SIGUSR1); err != nil {
		r.t.Fatal(err)
	}
	waitFor(r.t, "the statistics", func() bool { return strings.Contains(r.output()[before:], "export ") })
	return r.output()[before:]
}

// status is a field of clntrace's /proc/PID/status.
func (r *running) status(field string) string {
	r.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	r.t.Fatalf("no %s in %s", field, text)
	return ""
}

// checkSidecar runs a recipe's container, confined as the recipe says, and
// expects that it names the node's processes and keeps within its memory.
func checkSidecar(t *testing.T, c container) {
	t.Helper()
	t.Run("names processes", func(t *testing.T) {
		t.Parallel()
		receiver := otlptest.Start(t)
		r := c.start(t, "--otlp-endpoint="+receiver.GRPCEndpoint())
		for field, want := range map[string]string{"Uid": "1000 1000 1000 1000", "CapEff": "0000000000000000", "NoNewPrivs": "1"} {
			if got := r.status(field); got != want {
				t.Errorf("%s of clntrace is %s, want %s", field, got, want)
			}
		}
		names := []string{"lightningd", "cln-xpay"}
		for i, s := range r.senders(c, nodeUser, names...) {
			if err := s.SendPatiently(recording.Numbered("extend_tip", i+1, 1)...); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range receiver.WaitSpans(t, len(names)) {
			if name := s.Resource["service.name"]; !slices.Contains(names, fmt.Sprint(name)) || s.Resource["process.pid"] == nil {
				t.Errorf("resource %v", s.Resource)
			}
			names = slices.DeleteFunc(names, func(n string) bool { return n == s.Resource["service.name"] })
		}
		if len(names) > 0 {
			t.Errorf("no span says that it comes from %v", names)
		}
		if output := r.output(); strings.Contains(output, "spool") {
			t.Errorf("the spool is not as it should be: %s", output)
		}
	})
	t.Run("flood with the endpoint away", func(t *testing.T) {
		t.Parallel()
		flooded := c
		flooded.queue = 512
		checkFlood(t, flooded, flooded.start(t))
	})
}

// mostMemory is what clntrace takes at most, bytes, resident.
const mostMemory = 128 << 20

// checkFlood sends as much as is possible, which fills queue and spool, and
// expects that clntrace is still there, within its memory.
func checkFlood(t *testing.T, c container, r *running) {
	t.Helper()
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
	var all sync.WaitGroup
	for _, s := range r.senders(c, nodeUser, "lightningd", "cln-xpay", "pay") {
		all.Go(func() {
			for range 3 {
				if err := s.SendPatiently(payloads...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	tables := r.statistics()
	if full := "the kernel's queue holds 513"; !strings.Contains(strings.Join(strings.Fields(tables), " "), full) {
		t.Errorf("want %q", full)
	}
	peak, err := strconv.Atoi(strings.TrimSuffix(r.status("VmHWM"), " kB"))
	if err != nil {
		t.Fatal(err)
	}
	summary, _, _ := strings.Cut(tables, "\nPROCESS")
	t.Logf("peak memory %d MiB; %s", peak>>10, summary)
	if peak > mostMemory>>10 {
		t.Errorf("%d kB of memory", peak)
	}
	if r.cgroup == "" {
		return
	}
	for _, file := range []string{"memory.oom_control", "memory.events"} {
		if text, err := os.ReadFile(filepath.Join(r.cgroup, file)); err == nil && !strings.Contains(string(text), "oom_kill 0") {
			t.Errorf("killed for its memory: %s", text)
		}
	}
}

// Where it stands in another pid namespace than the node, clntrace receives all
// and cannot tell from whom.
func TestSidecarWithoutSharedPIDs(t *testing.T) {
	t.Parallel()
	c := container{
		argv: []string{"/clntrace", "collect", "--socket=/run/trace.sock", "--spool-size=0"}, program: "/clntrace",
		directories: []string{"/run"}, ownPIDs: true,
	}
	receiver := otlptest.Start(t)
	r := c.start(t, "--otlp-endpoint="+receiver.GRPCEndpoint())
	senders := r.senders(c, nodeUser, "lightningd", "cln-xpay")
	for i, s := range senders {
		if err := s.SendPatiently(recording.Numbered("extend_tip", i+1, 1)...); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range receiver.WaitSpans(t, len(senders)) {
		if name, pid := s.Resource["service.name"], s.Resource["process.pid"]; name != "lightningd" || pid != nil {
			t.Errorf("service.name %v, process.pid %v", name, pid)
		}
	}
}

// Another user than clntrace's own is not heard, unless it is listed.
func TestSidecarOfAnotherUser(t *testing.T) {
	t.Parallel()
	const other = nodeUser + 1
	for _, listed := range []bool{false, true} {
		t.Run(fmt.Sprintf("listed: %v", listed), func(t *testing.T) {
			t.Parallel()
			c := container{
				argv:    []string{"/clntrace", "collect", "--socket=/run/trace.sock", "--spool-size=0", "--otlp-endpoint=off"},
				program: "/clntrace", directories: []string{"/run"},
			}
			if listed {
				c.argv = append(c.argv, fmt.Sprintf("--allow-uids=%d", other))
			}
			r := c.start(t)
			if listed {
				waitFor(t, "the socket to be open to others", func() bool {
					info, err := os.Stat(r.socket(c))
					return err == nil && info.Mode().Perm() == 0o666
				})
			}
			errnos, err := r.senders(c, other, "lightningd")[0].Send(recording.Numbered("extend_tip", 1, 1)...)
			if err != nil {
				t.Fatal(err)
			}
			if heard := lightningdtest.Sent(errnos) == 1; heard != listed {
				t.Errorf("the kernel said %v", errnos)
			}
			counted := func() bool { return strings.Contains(r.statistics(), "extend_tip") }
			if listed {
				waitFor(t, "the span to be counted", counted)
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
	dir := lightningdtest.Dir(t)
	socket := filepath.Join(dir, "trace.sock")
	cmd := exec.Command("unshare", "--net", "sh", "-c", `sysctl -q -w net.unix.max_dgram_qlen=512 && exec "$@"`, "sh",
		clntrace, "collect", "--socket="+socket, "--otlp-endpoint=off", "--spool-size=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &out, dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the socket", func() bool { _, err := os.Stat(socket); return err == nil })
	s := lightningdtest.SendersTo(t, sender, socket).Start("lightningd")
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const more = 2000 // than the limit
	errnos, err := s.Send(make([][]byte, more)...)
	if err != nil {
		t.Error(err)
	}
	// The sender's own buffer ends it, long before the limit does.
	if sent := lightningdtest.Sent(errnos); sent <= 100 {
		t.Errorf("%d datagrams fit into the queue", sent)
	}
	_ = cmd.Process.Signal(syscall.SIGCONT)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, out.String())
	}
}
