package socket

import (
	"golang.org/x/sys/unix"

	"clntrace/collector/probe"
)

// These system calls are only for speed, or for what tracestats tells.
var (
	recvmmsg = probe.New("recvmmsg", func() { _, _, _ = unix.Syscall6(unix.SYS_RECVMMSG, ^uintptr(0), 0, 0, 0, 0, 0) })
	ppoll    = probe.New("ppoll", func() { _, _ = unix.Ppoll(nil, new(unix.Timespec), nil) })
	charging = probe.New("charging", func() { measureCharges() })
	priority = probe.New("priority", tryPriority)
)

// probeReceiving finds out which of those that receiving takes are allowed, at once,
// so that the first datagrams need not wait for it.
func probeReceiving() { probe.Try(recvmmsg, ppoll, charging) }

func tryPriority() {
	if n, err := niceness(0); err == nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, n) // changes nothing
	}
}
