//go:build unix && !linux

package socket

import (
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// This is for trying out clntrace on systems other than Linux: datagrams are
// received one by one, and their senders are unknown.

const batchLen = 1

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

func probe(path string) error {
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

// file identifies a socket file, to tell it from a later one of the same name.
type file struct{ device, inode uint64 }

func identify(path string) (file, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return file{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return file{}, errNotOurs
	}
	return file{uint64(st.Dev), uint64(st.Ino)}, nil
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

func (b *otherBatcher) datagram(int) Datagram {
	return Datagram{Payload: b.buffer[:min(b.length, maxDatagram)], Oversize: b.length > maxDatagram}
}
