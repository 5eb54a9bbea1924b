//go:build unix

// Package trace sends spans as lightningd's common/trace.c does, and holds the
// words in which a test tells a sender process what to send.
package trace

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// Emitter sends datagrams to a path, one sendto each, and never connects: the
// path is looked up again for every datagram.
type Emitter struct {
	fd      int
	address syscall.RawSockaddrUnix
	length  uintptr
}

// Open makes an Emitter for a CLN_TRACE_SOCKET. A path over 107 bytes is cut
// there without a word, and a leading @ means nothing, both as in lightningd:
// that is why the address is not left to the syscall package.
func Open(path string) (*Emitter, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	e := &Emitter{fd: fd}
	e.address.Family = syscall.AF_UNIX
	path = path[:min(len(path), len(e.address.Path)-1)]
	for i := range len(path) {
		e.address.Path[i] = int8(path[i])
	}
	e.length = unsafe.Offsetof(e.address.Path) + uintptr(len(path)) + 1
	return e, nil
}

// Send sends one datagram and returns what sendto said: 0, EAGAIN when the
// receiver's queue is full, ENOENT when there is no socket, and so on.
func (e *Emitter) Send(payload []byte) syscall.Errno { return e.sendto(payload, syscall.MSG_DONTWAIT) }

// SendPatiently sends one datagram, and waits for at most patience, which is
// more than 0, while the queue is full. lightningd never does: it is for tests
// that are not about loss.
func (e *Emitter) SendPatiently(payload []byte, patience time.Duration) syscall.Errno {
	timeout := syscall.NsecToTimeval(patience.Nanoseconds())
	if err := syscall.SetsockoptTimeval(e.fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &timeout); err != nil {
		return err.(syscall.Errno) //nolint:errorlint // a system call's error is nothing else
	}
	for {
		// Go's scheduler interrupts long system calls with a signal of its own.
		if errno := e.sendto(payload, 0); errno != syscall.EINTR {
			return errno
		}
	}
}

func (e *Emitter) sendto(payload []byte, flags uintptr) syscall.Errno {
	var first unsafe.Pointer
	if len(payload) > 0 {
		first = unsafe.Pointer(&payload[0])
	}
	_, _, errno := syscall.Syscall6(syscall.SYS_SENDTO, uintptr(e.fd), uintptr(first), uintptr(len(payload)),
		flags, uintptr(unsafe.Pointer(&e.address)), e.length)
	return errno
}

// Close closes the socket.
func (e *Emitter) Close() error { return os.NewSyscallError("close", syscall.Close(e.fd)) }
