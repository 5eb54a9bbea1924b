//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// qlenPath holds the queue limit for sockets made from now on, in the network
// namespace of the thread that opens it.
const qlenPath = "/proc/sys/net/unix/max_dgram_qlen"

// namespace is a thread that starts all processes: in a network namespace of its
// own, if that is permitted, so that changing limits affects nobody else. Paths of
// unix sockets work across namespaces, but loopback does not, so all processes have
// to start there.
type namespace struct {
	work chan func()
	err  error // why it has no namespace of its own
}

// openNamespace starts the thread.
func openNamespace() *namespace {
	n := &namespace{work: make(chan func())}
	opened := make(chan struct{})
	go func() {
		// Never unlocked: a thread in another namespace must end with its goroutine.
		// It has to live as long as the processes that it starts, which the kernel
		// kills with it (Pdeathsig in process.go).
		runtime.LockOSThread()
		if n.err = os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNET)); n.err == nil {
			n.err = loopbackUp()
		}
		close(opened)
		for work := range n.work {
			work()
		}
	}()
	<-opened
	return n
}

// loopbackUp brings up the only interface that a new namespace has.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("ioctl", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request))
}

// do runs f on the thread.
func (n *namespace) do(f func() error) error {
	done := make(chan error)
	n.work <- func() { done <- f() }
	return <-done
}

func (n *namespace) close() { close(n.work) }

// settable returns the current limit; the error says why it cannot be changed.
func (n *namespace) settable() (limit int, err error) {
	err = n.do(func() error {
		if limit, err = readLimit(); err != nil {
			return err
		}
		if err := writeLimit(limit); err != nil {
			return errors.Join(n.err, err)
		}
		return nil
	})
	return limit, err
}

// withLimit sets the limit while f makes its socket, and then restores the old one.
func (n *namespace) withLimit(limit int, f func() error) (err error) {
	var old int
	set := func() error {
		if old, err = readLimit(); err != nil || old == limit {
			return err
		}
		return writeLimit(limit)
	}
	if err := n.do(set); err != nil {
		return err
	}
	if old != limit {
		defer func() {
			err = errors.Join(err, n.do(func() error { return writeLimit(old) }))
		}()
	}
	return f()
}

func readLimit() (int, error) {
	text, err := os.ReadFile(qlenPath)
	if err != nil {
		return 0, err
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", qlenPath, err)
	}
	return limit, nil
}

func writeLimit(limit int) error {
	return os.WriteFile(qlenPath, []byte(strconv.Itoa(limit)), 0)
}
