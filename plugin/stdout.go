package plugin

import (
	"os"

	"golang.org/x/sys/unix"
)

// claimStdout returns the real stdout, for the protocol alone, and points file
// descriptor 1 and os.Stdout to stderr: glightning reports parameters of the
// wrong type with fmt.Println.
func claimStdout() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(unix.Stdout), unix.F_DUPFD_CLOEXEC, unix.Stderr+1)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	stdout := os.NewFile(uintptr(fd), "stdout")
	if err := redirect(unix.Stderr, unix.Stdout); err != nil {
		stdout.Close()
		return nil, os.NewSyscallError("dup2", err)
	}
	os.Stdout = os.Stderr
	return stdout, nil
}
