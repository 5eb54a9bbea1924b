//go:build unix && !linux

package socket

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// This is for trying out clntrace on systems other than Linux: datagrams are
// received one by one, and their senders are unknown. Only Linux has priorities for
// single threads.

const batchLen = 1

// chargeStep makes charges hold next to nothing: what a sender's buffer holds is
// unknown, because the senders of datagrams are.
const chargeStep = maxDatagram

func probeReceiving() {}

func refuse(int) {} // shutdown would discard what has been sent

func chargesOfKernel() *charges { return new(charges) }

func threadID() int { return 0 }

func stepBack(int) error { return nil }

func queueLimit() int { return 0 }

func openBound(path string) (fd int, err error) {
	fd, err = newSocket()
	if err != nil {
		return -1, err
	}
	// The umask is that of the whole process, so it is changed for one call only.
	old := unix.Umask(0o177)
	err = unix.Bind(fd, address(path))
	unix.Umask(old)
	if err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

func newSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("fcntl", err)
	}
	return fd, nil
}

func tryConnect(path string) error {
	fd, err := newSocket()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return os.NewSyscallError("connect", unix.Connect(fd, address(path)))
}

func address(path string) *unix.SockaddrUnix {
	if strings.HasPrefix(path, "@") { // to lightningd, part of a file name
		path = "./" + path
	}
	return &unix.SockaddrUnix{Name: path}
}

func (f file) openToAll(path string) error {
	if !f.inPlace(path) {
		return errNotOurs
	}
	return os.Chmod(path, 0o666)
}

// doze waits for at most d.
func doze(fds []unix.PollFd, d time.Duration) (int, error) {
	return unix.Poll(fds, int(max(d, time.Millisecond).Milliseconds()))
}

func poll(fds []unix.PollFd, ms int) (int, error) { return unix.Poll(fds, ms) }

type otherBatcher struct {
	fd     int
	buffer [maxDatagram + 1]byte // one byte more, to notice larger datagrams
	length int
}

func newBatcher(fd int) batcher { return &otherBatcher{fd: fd} }

func (b *otherBatcher) receive() (int, error) {
	for {
		n, _, err := unix.Recvfrom(b.fd, b.buffer[:], 0)
		switch err {
		case nil:
			b.length = n
			return 1, nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("recvfrom", err)
		}
	}
}

func (b *otherBatcher) most() int { return 1 }

func (b *otherBatcher) datagram(int) Datagram {
	return Datagram{Payload: b.buffer[:min(b.length, maxDatagram)], Oversize: b.length > maxDatagram}
}
