package socket

import (
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

// queueLimit reads net.unix.max_dgram_qlen, which applies to sockets made from now
// on; 0: unknown. The queue holds one datagram more than that: the kernel refuses
// another one only when there are more than the limit.
func queueLimit() int {
	text, err := os.ReadFile("/proc/sys/net/unix/max_dgram_qlen")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n
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

// probe tries to connect to path. The error is nil if somebody listens there, and
// ECONNREFUSED if nobody does.
func probe(path string) error {
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

// file identifies a socket file, to tell it from a later one of the same name.
// Inode numbers are reused at once, so the time of creation is part of it.
type file struct {
	device uint64
	inode  uint64
	birth  unix.StatxTimestamp
}

func identify(path string) (file, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st)
	if err != nil {
		return file{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return fileOf(&st), nil
}

func fileOf(st *unix.Statx_t) file {
	return file{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, unix.StatxTimestamp{Sec: st.Btime.Sec, Nsec: st.Btime.Nsec}}
}

// openToAll makes the file writable for all users. It changes the very file that it
// has checked, even if another one takes its place meanwhile.
func (f file) openToAll(path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return &os.PathError{Op: "statx", Path: path, Err: err}
	}
	if fileOf(&st) != f {
		return errNotOurs
	}
	return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o666)
}

// doze waits for at most d, without the knowledge of the Go runtime. The runtime
// can still preempt us, because poll ends with EINTR when it sends its signal. If
// the runtime has only one processor it is told, or no goroutine could run.
func doze(fds []unix.PollFd, d time.Duration) (int, error) {
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
}

func newBatcher(fd int) batcher {
	b := &linuxBatcher{fd: fd, controls: make([]byte, batchLen*controlLen)}
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
	for i := range b.messages {
		b.messages[i].header.SetControllen(controlLen)
	}
	for {
		// The call does not block, so the scheduler need not know of it: it might
		// give our processor to another goroutine while the queue fills.
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(b.fd),
			uintptr(unsafe.Pointer(&b.messages)), batchLen, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("recvmmsg", errno)
		}
	}
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
