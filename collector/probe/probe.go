// Package probe finds out which system calls the process may make. A seccomp filter
// (of systemd, of a container engine) may end the process for one, and the node with
// it, so what clntrace can do without is first tried in a child process.
package probe

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// variable, in the environment, names the call that a child process is to try.
	variable = "CLNTRACE_PROBE"
	// patience bounds the wait for the child, which takes some 20 ms.
	patience = 5 * time.Second
)

// Call is a system call, or a few of them, that clntrace can do without.
type Call struct{ allowed func() bool }

// New makes a Call of that name. try makes the call in the child, where it does no
// harm; what it returns does not matter. Call New to initialize a package's variable:
// in the child it does not return.
func New(name string, try func()) *Call {
	if os.Getenv(variable) == name {
		try()
		os.Exit(0)
	}
	return &Call{sync.OnceValue(func() bool { return !filtered() || survives(name) })}
}

// Allowed reports whether the call may be made without ending the process. It may
// still fail. The first time it can take as long as it takes to start a process.
func (c *Call) Allowed() bool { return c.allowed() }

// Try finds out about several calls at once.
func Try(calls ...*Call) {
	var all sync.WaitGroup
	for _, c := range calls {
		all.Go(func() { c.Allowed() })
	}
	all.Wait()
}

// filtered reports whether the process may have a seccomp filter.
func filtered() bool {
	status, err := os.ReadFile("/proc/self/status")
	return err != nil || !bytes.Contains(status, []byte("\nSeccomp:\t0\n"))
}

// survives reports whether a child process that makes the call ends well. Package os/exec
// would try pidfd_open first, for which a filter may end us.
func survives(name string) bool {
	self, err := os.Executable()
	if err != nil {
		return false
	}
	child, err := syscall.ForkExec(self, []string{self}, &syscall.ProcAttr{Env: []string{variable + "=" + name}})
	if err != nil {
		return false
	}
	defer time.AfterFunc(patience, func() { _ = syscall.Kill(child, syscall.SIGKILL) }).Stop()
	var status syscall.WaitStatus
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		_, err = syscall.Wait4(child, &status, 0, nil)
	}
	return err == nil && status.Exited() && status.ExitStatus() == 0
}
