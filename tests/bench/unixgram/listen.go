//go:build linux

// Package unixgram makes the sockets of the receivers that clntrace is compared
// with.
package unixgram

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// silence is how long a receive waits before it returns EAGAIN, in µs. A
// receiver that is to stop does so then: the socket is empty. A poll before
// each receive would cost a system call more.
const silence = 100_000

// Listen makes a blocking datagram socket at path.
func Listen(path string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: silence}); err != nil {
		return -1, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return -1, fmt.Errorf("binding %s: %w", path, err)
	}
	return fd, nil
}
