// Package probetest takes system calls away from a test's process, as old kernels and
// seccomp filters do.
package probetest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// variable, in the environment, names the call that the process must do without,
	// and what happens at it: flock:kill.
	variable = "CLNTRACE_TEST_FORBID"
	// noFilter is the exit status if that cannot be arranged.
	noFilter = 77
)

// Without runs the test binary's tests that pattern selects, once for each of calls
// (numbers by name) and each way in which it can be missing: with ENOSYS, with EPERM,
// and with the end of the process. The package has to call Obey before its tests.
func Without(t *testing.T, calls map[string]uintptr, pattern string) {
	t.Helper()
	if os.Getenv(variable) != "" {
		t.Skip("skipped: this is the test's own child")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range calls {
		for action := range actions {
			t.Run(name+" "+action, func(t *testing.T) {
				t.Parallel() // they mostly wait
				cmd := exec.Command(self, "-test.run="+pattern)
				cmd.Env = append(os.Environ(), variable+"="+name+":"+action, "GORACE=atexit_sleep_ms=0")
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

// Forbidden reports whether the process has to do without a system call.
func Forbidden() bool { return os.Getenv(variable) != "" }

// Obey takes away the call that Without has asked for, if it has. Call it in an init
// of the tests.
func Obey(calls map[string]uintptr) {
	what := os.Getenv(variable)
	if what == "" {
		return
	}
	name, action, _ := strings.Cut(what, ":")
	if err := forbid(calls[name], actions[action]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(noFilter)
	}
}

var actions = map[string]uint32{
	"ENOSYS": unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS),
	"EPERM":  unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM),
	"kill":   unix.SECCOMP_RET_KILL_PROCESS,
}

// forbid puts a seccomp filter on all threads of the process, which its children
// inherit.
func forbid(call uintptr, action uint32) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(call), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: action},
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
