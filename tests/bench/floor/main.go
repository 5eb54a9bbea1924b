//go:build linux

// Floor does the least that a Go program can do with trace datagrams: it receives
// them with recvmmsg, at the path given, and counts them. On SIGTERM it empties the
// socket and prints how many there were.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"clntrace/tests/bench/unixgram"
)

const (
	batchLen    = 64
	maxDatagram = 2048 // bytes; lightningd cuts what is longer
)

// mmsg is the kernel's struct mmsghdr.
type mmsg struct {
	header unix.Msghdr
	_      uint32 // length, which is not used
}

// batch is where one system call puts its datagrams.
type batch struct {
	messages [batchLen]mmsg
	vectors  [batchLen]unix.Iovec
	payloads [batchLen][maxDatagram]byte
}

func newBatch() *batch {
	b := new(batch)
	for i := range b.messages {
		b.vectors[i].Base = &b.payloads[i][0]
		b.vectors[i].SetLen(maxDatagram)
		b.messages[i].header.Iov, b.messages[i].header.Iovlen = &b.vectors[i], 1
	}
	return b
}

// receive waits for a datagram and takes as many as there are by then.
func (b *batch) receive(fd int) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages)),
		batchLen, unix.MSG_WAITFORONE, 0, 0)
	return int(n), errno
}

func run(path string) error {
	var stopping atomic.Bool
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	go func() { <-terminated; stopping.Store(true) }()

	fd, err := unixgram.Listen(path)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // a thread of its own, as clntrace's reader has
	received := 0
	for b := newBatch(); ; {
		n, errno := b.receive(fd)
		switch errno {
		case 0:
			received += n
		case unix.EINTR:
		case unix.EAGAIN:
			if stopping.Load() {
				fmt.Printf("{\"received\": %d}\n", received)
				return nil
			}
		default:
			return os.NewSyscallError("recvmmsg", errno)
		}
	}
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
