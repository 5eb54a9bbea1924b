package socket

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbid, in the environment, names a system call that the test binary must do
// without, and what happens at it: statx:kill. The exit status is noFilter if that
// cannot be arranged.
const (
	forbid   = "CLNTRACE_TEST_FORBID"
	noFilter = 77
)

func init() {
	if what := os.Getenv(forbid); what != "" {
		if err := forbidCall(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(noFilter)
		}
	}
}

// optional are the system calls that receiving uses and can do without. Old kernels
// lack some, and filters of systemd and of container engines forbid some.
var optional = map[string]uintptr{
	"statx": unix.SYS_STATX, "recvmmsg": unix.SYS_RECVMMSG, "ppoll": unix.SYS_PPOLL, "socketpair": unix.SYS_SOCKETPAIR,
	"setpriority": unix.SYS_SETPRIORITY, "getpriority": unix.SYS_GETPRIORITY,
}

// forbidCall puts a seccomp filter on the process: the call that is named fails, or
// ends the process.
func forbidCall(what string) error {
	name, action, _ := strings.Cut(what, ":")
	number, ok := optional[name]
	actions := map[string]uint32{
		"ENOSYS": unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS), "EPERM": unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM),
		"kill": unix.SECCOMP_RET_KILL_PROCESS,
	}
	if !ok || actions[action] == 0 {
		return fmt.Errorf("%q cannot be forbidden", what)
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(number), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: actions[action]},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

// Without a system call that is not essential, spans are received, the socket is looked
// after and removed, and nothing ends the process.
func TestWithoutOptionalSystemCalls(t *testing.T) {
	if os.Getenv(forbid) != "" {
		t.Skip("skipped: this is the test's own child")
	}
	self, err := os.Executable()
	must(t, err)
	for name := range optional {
		for _, action := range []string{"ENOSYS", "EPERM", "kill"} {
			t.Run(name+" "+action, func(t *testing.T) {
				cmd := exec.Command(self, "-test.run=^(TestDatagramsOfAllSizes|TestRemovedSocketIsBoundAnew|TestCloseRemovesOnlyItsOwnFile|"+
					"TestCloseReadsWhatHadBeenSent|TestSenderIsKnown|TestOpenToAll|TestPreferEndsNothing)$")
				cmd.Env = append(os.Environ(), forbid+"="+name+":"+action)
				out, err := cmd.CombinedOutput()
				if cmd.ProcessState.ExitCode() == noFilter {
					t.Skipf("skipped: no seccomp filter can be made here: %s", out)
				}
				if err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
	}
}

// To lower the priority of threads is a favour to the node, and must never end it.
func TestPreferEndsNothing(t *testing.T) {
	if os.Getenv(forbid) == "" {
		t.Skip("skipped: the priority of the other tests should stay what it is")
	}
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	if err := r.Prefer(); err != nil {
		t.Log(err)
	}
	works(t, r, path)
}

// Where nothing can be read at all, that is said.
func TestFailureToReadIsTold(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	failing := scripted(&script{counts: []int{-1}}, 10, newRing())
	failing.load.pressure = &r.pressure
	failing.drain(failing.wait.last)
	if got := r.Status().Problem; !strings.Contains(got, errScript.Error()) || !strings.Contains(got, "allow recvmsg") {
		t.Errorf("the problem is %q", got)
	}
	works(t, r, path)
	if got := r.Status().Problem; got != "" {
		t.Errorf("afterwards the problem is %q", got)
	}
}
