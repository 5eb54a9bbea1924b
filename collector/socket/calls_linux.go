package socket

import (
	"golang.org/x/sys/unix"

	"clntrace/collector/probe"
)

// These system calls are only for speed, for what tracestats tells, or for the last
// datagrams of a flood.
var (
	recvmmsg = probe.New("recvmmsg", func() { _, _, _ = unix.Syscall6(unix.SYS_RECVMMSG, ^uintptr(0), 0, 0, 0, 0, 0) })
	ppoll    = probe.New("ppoll", func() { _, _ = unix.Ppoll(nil, new(unix.Timespec), nil) })
	charging = probe.New("charging", func() { measureCharges() })
	priority = probe.New("priority", tryPriority)
	shutdown = probe.New("shutdown", func() { _ = unix.Shutdown(-1, unix.SHUT_RD) })
)

// probeReceiving finds out which of those that receiving takes are allowed, at once,
// so that the first datagrams need not wait for it.
func probeReceiving() { probe.Try(recvmmsg, ppoll, charging, shutdown) }

// refuse has the kernel refuse whatever else is sent to the socket, with EPIPE and no
// signal. What has been sent can still be read.
func refuse(fd int) {
	if shutdown.Allowed() {
		_ = unix.Shutdown(fd, unix.SHUT_RD)
	}
}

func tryPriority() {
	if n, err := niceness(0); err == nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, n) // changes nothing
	}
}
