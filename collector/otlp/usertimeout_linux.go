package otlp

import (
	"net"

	"golang.org/x/sys/unix"
)

// boundResending makes the kernel give c up when nothing that it resends has been
// acknowledged for resendFor. A connection without such an option (a pipe, a unix
// socket) stays as it is.
func boundResending(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return // it is closed already
	}
	_ = raw.Control(func(fd uintptr) { setUserTimeout(int(fd)) }) // as above
}

func setUserTimeout(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(resendFor.Milliseconds())) // without it the time limits of attempts remain
}
