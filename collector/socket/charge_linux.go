package socket

import (
	"golang.org/x/sys/unix"
)

// chargeStep is the step in which the kernel charges datagrams to their
// sender, in bytes: the cache line of most processors.
const chargeStep = 64

// chargesOfKernel measures the charges, if that is allowed.
func chargesOfKernel() *charges {
	if !charging.Allowed() {
		return new(charges)
	}
	return measureCharges()
}

// measureCharges measures what the kernel charges, with a pair of sockets of our
// own. A sender's buffer has the size that net.core.wmem_default had when the
// sender made its socket; we assume that it has not changed since.
func measureCharges() *charges {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return new(charges)
	}
	defer func() {
		_ = unix.Close(pair[0])
		_ = unix.Close(pair[1])
	}()
	c := new(charges)
	var payload [maxDatagram]byte
	for i := range c.steps {
		if _, err := unix.Write(pair[0], payload[:i*chargeStep]); err != nil {
			return new(charges)
		}
		if c.steps[i], err = unix.IoctlGetInt(pair[0], unix.SIOCOUTQ); err != nil {
			return new(charges)
		}
		if _, err := unix.Read(pair[1], payload[:]); err != nil {
			return new(charges)
		}
	}
	if c.buffer, err = unix.GetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF); err != nil {
		return new(charges)
	}
	return c
}
