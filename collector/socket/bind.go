package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"clntrace/collector/voice"
)

// MaxPath is the longest path of a unix socket on Linux, in bytes; other systems
// allow less. lightningd silently cuts longer ones.
const MaxPath = 107

// noticed says that binding is tried again every few seconds, so that what is put
// right on the disk needs no restart; or else, how to do without.
func noticed(v voice.Voice) string { return " (that is noticed within seconds), or " + v.Elsewhere }

// errLive means that another process is listening on the path.
var errLive = errors.New("another process is listening on it")

// bind makes a socket at path, open to all users if it is public. Its errors say
// what to do, in the words of v.
func bind(path string, public bool, v voice.Voice) (*boundSocket, error) {
	if err := checkPath(path, v); err != nil {
		return nil, err
	}
	if err := clearPath(path, v); err != nil {
		return nil, err
	}
	limit := queueLimit() // the kernel copies it into the socket when that is made
	fd, err := openBound(path)
	if err != nil {
		return nil, explain(path, err, v)
	}
	s := &boundSocket{fd: fd, queueLimit: limit, done: make(chan struct{})}
	if s.file, err = identify(path); err == nil && public {
		err = s.file.openToAll(path)
	}
	if err == nil {
		s.wakeRead, s.wakeWrite, err = os.Pipe()
	}
	if err != nil {
		_ = unix.Close(fd)
		s.file.remove(path)
		return nil, fmt.Errorf("preparing the trace socket %s: %w", path, err)
	}
	return s, nil
}

func checkPath(path string, v voice.Voice) error {
	switch {
	case path == "":
		return errors.New(v.Socket + " is empty; " + v.Elsewhere)
	case len(path) > MaxPath:
		return fmt.Errorf("the path in %s has %d bytes, and that of a unix socket at most %d: %s; %s", v.Socket, len(path), MaxPath, path, v.Elsewhere)
	}
	return nil
}

// clearPath makes sure that there is nothing at path. It removes only a socket on
// which nobody listens.
func clearPath(path string, v voice.Voice) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return explain(path, err, v)
	case info.Mode().Type() != fs.ModeSocket:
		return notASocket(path, info, v)
	}
	switch err := tryConnect(path); {
	case errors.Is(err, unix.ECONNREFUSED): // stale
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case (err == nil || errors.Is(err, unix.EPROTOTYPE)) && foreign(info):
		return fmt.Errorf("the trace socket %s is taken, %w: one of user %d, who may be getting this node's spans; take a directory where only the node's user may write, and "+v.Elsewhere, path, errLive, owner(info))
	case err == nil || errors.Is(err, unix.EPROTOTYPE): // EPROTOTYPE: a live stream socket
		return fmt.Errorf("the trace socket %s is taken, %w; stop it"+noticed(v), path, errLive)
	case errors.Is(err, unix.EPERM): // unix_may_send of the kernel's af_unix.c
		return fmt.Errorf("the trace socket %s is taken, %w and hears one sender only (%w); stop it"+noticed(v), path, errLive, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s is a socket of another user (%w); "+v.Elsewhere, path, err)
	default:
		return explain(path, err, v)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain(path, err, v)
	}
	return nil
}

// notASocket does not say to remove what is there: somebody may need it.
func notASocket(path string, info fs.FileInfo, v voice.Voice) error {
	return fmt.Errorf("%s exists and is not a socket (%s); %s", path, kind(info.Mode()), v.Elsewhere)
}

// Hopeless returns why there can be no socket at path however long one waits, in the
// words of v; nil if there can be one, or may be when others have done their part.
func Hopeless(path string, v voice.Voice) error {
	if err := checkPath(path, v); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return explain(path, err, v)
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return notASocket(path, info, v)
	}
	return nil
}

// owner returns the id of the user who owns the file.
func owner(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return uint32(os.Geteuid()) //nolint:gosec // a uid has 32 bits
}

// foreign reports whether the file belongs to a user other than root and us.
func foreign(info fs.FileInfo) bool {
	uid := owner(info)
	return uid != 0 && uid != uint32(os.Geteuid()) //nolint:gosec // a uid has 32 bits
}

func kind(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "a file"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a pipe"
	}
	return "a device"
}

// explain says what an error of the system means, and what to do about it.
func explain(path string, err error, v voice.Voice) error {
	dir := filepath.Dir(path)
	if absolute, err := filepath.Abs(dir); err == nil {
		dir = absolute // the user need not know what a path is relative to
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("the trace socket %s is taken, %w; stop it"+noticed(v), path, errLive)
	case errors.Is(err, fs.ErrNotExist) && !exists(dir):
		return fmt.Errorf("the directory %s of the trace socket does not exist; create it"+noticed(v), dir)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s, where the trace socket should be, is not a directory; "+v.Elsewhere, dir)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("user %d may not make a socket in %s: %w; give it the right"+noticed(v), os.Geteuid(), dir, err)
	}
	return fmt.Errorf("binding the trace socket %s: %w; if this does not pass, "+v.Elsewhere, path, err)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// boundSocket is a socket that is bound, and read until close.
type boundSocket struct {
	fd         int
	file       file
	queueLimit int

	wakeRead, wakeWrite *os.File
	stopped             atomic.Bool // says the same where nothing can wait for a pipe
	done                chan struct{}
}

// read moves datagrams into queue until close.
func (s *boundSocket) read(queue *ring, pressure *pressure) {
	defer close(s.done)
	newReader(s.fd, int(s.wakeRead.Fd()), s.queueLimit, &s.stopped, queue, pressure).run()
}

// close reads what is left and closes the socket.
func (s *boundSocket) close() {
	refuse(s.fd) // or more would come between the last reading and the closing
	s.stopped.Store(true)
	_ = s.wakeWrite.Close() // which the reading thread notices
	<-s.done
	_ = s.wakeRead.Close()
	_ = unix.Close(s.fd)
}
