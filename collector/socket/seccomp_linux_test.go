package socket

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"clntrace/collector/probe/probetest"
)

// optional are the system calls that receiving uses and can do without. Old kernels
// lack some, and filters of systemd and of container engines forbid some.
var optional = map[string]uintptr{
	"statx": unix.SYS_STATX, "recvmmsg": unix.SYS_RECVMMSG, "ppoll": unix.SYS_PPOLL, "socketpair": unix.SYS_SOCKETPAIR,
	"setpriority": unix.SYS_SETPRIORITY, "getpriority": unix.SYS_GETPRIORITY, "shutdown": unix.SYS_SHUTDOWN,
}

func init() { probetest.Obey(optional) }

// Without a system call that is not essential, spans are received, the socket is looked
// after and removed, and nothing ends the process.
func TestWithoutOptionalSystemCalls(t *testing.T) {
	probetest.Without(t, optional, "^(TestDatagramsOfAllSizes|TestRemovedSocketIsBoundAnew|TestCloseRemovesOnlyItsOwnFile|"+
		"TestCloseReadsWhatHadBeenSent|TestSenderIsKnown|TestOpenToAll|TestPreferEndsNothing)$")
}

// To lower the priority of threads is a favour to the node, and must never end it.
func TestPreferEndsNothing(t *testing.T) {
	if !probetest.Forbidden() {
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
