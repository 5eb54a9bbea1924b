package socket

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchLen is how many datagrams one system call can receive. One call empties a
// queue with the default limit (10).
const batchLen = 64

// queueLimit is net.unix.max_dgram_qlen, which applies to sockets made from now on;
// 0: unknown. The queue holds one datagram more than that: the kernel refuses another
// one only when there are more than the limit.
func queueLimit() int {
	text, err := os.ReadFile(limitFile)
	if err != nil {
		return measureLimit()
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return measureLimit()
	}
	return n
}

// limitFile is not there if only processes are shown in /proc (ProcSubset=pid).
var limitFile = "/proc/sys/net/unix/max_dgram_qlen"

// maxMeasured bounds how many datagrams measureLimit sends; a longer queue is never
// full before a sender's buffer is.
const maxMeasured = 4096

// measureLimit fills a socket of our own, which the kernel names, and returns the
// queue's limit; 0: unknown. Each sender may fill its own buffer before, so it takes
// another one then, until not even the first datagram of one is let in.
func measureLimit() int {
	receiver, err := newSocket()
	if err != nil {
		return 0
	}
	defer func() { _ = unix.Close(receiver) }()
	if err := unix.Bind(receiver, &unix.SockaddrUnix{}); err != nil {
		return 0
	}
	name, err := unix.Getsockname(receiver)
	if err != nil {
		return 0
	}
	for sent := 0; sent <= maxMeasured; {
		n, err := fill(name, maxMeasured-sent+1)
		if err != nil {
			return 0
		}
		if n == 0 {
			return sent - 1
		}
		sent += n
	}
	return 0
}

// fill sends up to most empty datagrams to a socket, until there is no room for
// another one, and returns their number.
func fill(to unix.Sockaddr, most int) (sent int, err error) {
	sender, err := newSocket()
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(sender) }()
	for ; sent < most; sent++ {
		switch err := unix.Sendto(sender, nil, unix.MSG_DONTWAIT, to); {
		case errors.Is(err, unix.EAGAIN):
			return sent, nil
		case err != nil:
			return sent, os.NewSyscallError("sendto", err)
		}
	}
	return sent, nil
}

// openBound makes a datagram socket that delivers credentials and binds it to path,
// readable and writable by its owner only.
func openBound(path string) (fd int, err error) {
	fd, err = newSocket()
	if err != nil {
		return -1, err
	}
	if err := prepareAndBind(fd, path); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func prepareAndBind(fd int, path string) error {
	// Only datagrams sent after this carry credentials, so it comes before bind.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	// bind gives the file the mode of the socket. So it is at no moment wider than
	// that, and there is no need to change the umask, which all threads share.
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	return os.NewSyscallError("bind", withAddress(unix.SYS_BIND, fd, path))
}

func newSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return fd, os.NewSyscallError("socket", err)
}

// tryConnect tries to connect to path. The error is nil if somebody listens there, and
// ECONNREFUSED if nobody does.
func tryConnect(path string) error {
	fd, err := newSocket()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return os.NewSyscallError("connect", withAddress(unix.SYS_CONNECT, fd, path))
}

// withAddress calls bind or connect with a path. The usual wrappers map a leading @
// to the abstract namespace; to lightningd it is part of a file name.
func withAddress(call uintptr, fd int, path string) error {
	address := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	for i := range len(path) {
		address.Path[i] = int8(path[i])
	}
	size := unsafe.Offsetof(address.Path) + uintptr(len(path)) + 1
	_, _, errno := unix.Syscall(call, uintptr(fd), uintptr(unsafe.Pointer(&address)), size)
	if errno != 0 {
		return errno
	}
	return nil
}

// openToAll makes the file writable for all users. It changes the very file that it
// has checked, even if another one takes its place meanwhile.
func (f file) openToAll(path string) error {
	opened, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { _ = opened.Close() }()
	info, err := opened.Stat()
	if err != nil {
		return err
	}
	if now, err := fileOf(info); err != nil || now != f {
		return errNotOurs
	}
	return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", opened.Fd()), 0o666)
}

// doze waits for at most d, without the knowledge of the Go runtime. The runtime
// can still preempt us, because poll ends with EINTR when it sends its signal. If
// the runtime has only one processor it is told, or no goroutine could run.
func doze(fds []unix.PollFd, d time.Duration) (int, error) {
	if !ppoll.Allowed() {
		return 0, unix.ENOSYS
	}
	timeout := unix.NsecToTimespec(max(d, 0).Nanoseconds())
	if runtime.GOMAXPROCS(0) == 1 {
		return unix.Ppoll(fds, &timeout, nil)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)),
		uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("ppoll", errno)
	}
	return int(n), nil
}

// poll waits for at most that many ms, or for ever if they are negative.
func poll(fds []unix.PollFd, ms int) (int, error) {
	if !ppoll.Allowed() {
		return 0, unix.ENOSYS
	}
	return unix.Poll(fds, ms)
}

// missing reports whether an error says that there is no such system call, or that a
// seccomp filter forbids it.
func missing(errno unix.Errno) bool { return errno == unix.ENOSYS || errno == unix.EPERM }

// mmsg is the kernel's struct mmsghdr.
type mmsg struct {
	header unix.Msghdr
	length uint32
}

// controlLen is room for one message with credentials.
var controlLen = unix.CmsgSpace(unix.SizeofUcred)

// spread is added to the size of each buffer, in bytes: if their starts were a
// power of two apart, they would displace each other from the processor's caches.
const spread = 192

// linuxBatcher receives with recvmmsg, into buffers that it reuses.
type linuxBatcher struct {
	fd       int
	messages [batchLen]mmsg
	vectors  [batchLen]unix.Iovec
	payloads [batchLen][maxDatagram + spread]byte
	controls []byte
	single   bool // one datagram at a time, since recvmmsg is not to be had
}

func newBatcher(fd int) batcher {
	b := &linuxBatcher{fd: fd, controls: make([]byte, batchLen*controlLen), single: !recvmmsg.Allowed()}
	for i := range b.messages {
		b.vectors[i].Base = &b.payloads[i][0]
		b.vectors[i].SetLen(maxDatagram)
		h := &b.messages[i].header
		h.Iov, h.Iovlen = &b.vectors[i], 1
		h.Control = &b.controls[i*controlLen]
	}
	return b
}

func (b *linuxBatcher) receive() (int, error) {
	for {
		n, errno := b.call()
		switch {
		case errno == 0:
			return n, nil
		case errno == unix.EAGAIN:
			return 0, nil
		case errno == unix.EINTR:
		case !b.single && missing(errno):
			b.single = true
		default:
			return 0, os.NewSyscallError("recvmsg", errno)
		}
	}
}

func (b *linuxBatcher) most() int {
	if b.single {
		return 1
	}
	return batchLen
}

// call receives without blocking, so the scheduler need not know of it: it might give
// our processor to another goroutine while the queue fills.
func (b *linuxBatcher) call() (int, unix.Errno) {
	if b.single {
		b.messages[0].header.SetControllen(controlLen)
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(b.fd), uintptr(unsafe.Pointer(&b.messages[0].header)), unix.MSG_DONTWAIT)
		if errno != 0 {
			return 0, errno
		}
		b.messages[0].length = uint32(n) //nolint:gosec // at most maxDatagram
		return 1, 0
	}
	for i := range b.messages {
		b.messages[i].header.SetControllen(controlLen)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(b.fd),
		uintptr(unsafe.Pointer(&b.messages)), batchLen, unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func (b *linuxBatcher) datagram(i int) Datagram {
	m := &b.messages[i]
	d := Datagram{
		Payload:  b.payloads[i][:m.length],
		Oversize: m.header.Flags&unix.MSG_TRUNC != 0,
	}
	if int(m.header.Controllen) < unix.CmsgLen(unix.SizeofUcred) {
		return d
	}
	control := b.controls[i*controlLen:]
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_CREDENTIALS {
		cred := (*unix.Ucred)(unsafe.Pointer(&control[unix.CmsgLen(0)]))
		d.PID, d.UID, d.Known = cred.Pid, cred.Uid, true
	}
	return d
}
