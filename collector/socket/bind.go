package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// MaxPath is the longest path of a unix socket on Linux, in bytes; others have
// less. lightningd cuts longer ones without a word.
const MaxPath = 107

// Remedies that errors share. The socket is tried again from time to time, so
// that what is mended on the disk needs no restart.
const (
	// Elsewhere is what helps in any case, for a collector that lightningd starts.
	Elsewhere = "set CLN_TRACE_SOCKET to another path in lightningd's environment and restart the node"
	noticed   = " (that is noticed within seconds), or " + Elsewhere
)

// ErrLive tells that another process is listening on the path.
var ErrLive = errors.New("another process is listening on it")

// bind makes a socket at path. Its errors say what to do.
func bind(path string, public bool) (*boundSocket, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if err := clearPath(path); err != nil {
		return nil, err
	}
	limit := queueLimit() // it is copied into the socket when that is made
	fd, err := openBound(path)
	if err != nil {
		return nil, explain(path, err)
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

func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("CLN_TRACE_SOCKET is empty; set it to a path in lightningd's environment and restart the node")
	case len(path) > MaxPath:
		return fmt.Errorf("the path in CLN_TRACE_SOCKET has %d bytes, and that of a unix socket at most %d: %s; "+Elsewhere, len(path), MaxPath, path)
	}
	return nil
}

// clearPath makes sure that nothing is at path, and removes only a socket on
// which nobody listens.
func clearPath(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return explain(path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket (%s); remove it"+noticed, path, kind(info.Mode()))
	}
	switch err := probe(path); {
	case errors.Is(err, unix.ECONNREFUSED): // stale
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil || errors.Is(err, unix.EPROTOTYPE): // EPROTOTYPE: a live stream socket
		return fmt.Errorf("the trace socket %s is taken, %w; stop it"+noticed, path, ErrLive)
	case errors.Is(err, unix.EPERM): // unix_may_send of the kernel's af_unix.c
		return fmt.Errorf("the trace socket %s is taken, %w and hears one sender only (%w); stop it"+noticed, path, ErrLive, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s is a socket of another user (%w); remove it"+noticed, path, err)
	default:
		return explain(path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain(path, err)
	}
	return nil
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

// explain says what an error of the system means for the user.
func explain(path string, err error) error {
	dir := filepath.Dir(path)
	if absolute, err := filepath.Abs(dir); err == nil {
		dir = absolute // of a relative path nobody knows what to
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("the trace socket %s is taken, %w; stop it"+noticed, path, ErrLive)
	case errors.Is(err, fs.ErrNotExist) && !exists(dir):
		return fmt.Errorf("the directory %s of the trace socket does not exist; create it"+noticed, dir)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s, where the trace socket should be, is not a directory; "+Elsewhere, dir)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("user %d may not make a socket in %s: %w; give it the right"+noticed, os.Geteuid(), dir, err)
	}
	return fmt.Errorf("binding the trace socket %s: %w; if this does not pass, "+Elsewhere, path, err)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// boundSocket is a socket with a thread that reads it.
type boundSocket struct {
	fd         int
	file       file
	queueLimit int

	wakeRead, wakeWrite *os.File
	done                chan struct{}
}

// read reads into queue until close, counting in full the drains that found the
// kernel's queue at its limit.
func (s *boundSocket) read(queue *ring, full *atomic.Uint64) {
	defer close(s.done)
	read(s.fd, int(s.wakeRead.Fd()), s.queueLimit, queue, full)
}

// close reads what is left and closes the socket.
func (s *boundSocket) close() {
	_ = s.wakeWrite.Close() // the reading thread sees the end of the pipe
	<-s.done
	_ = s.wakeRead.Close()
	_ = unix.Close(s.fd)
}

// batcher receives datagrams, as many at once as the system allows.
type batcher interface {
	// receive returns how many there are, 0 when the queue is empty.
	receive() (int, error)
	// datagram returns the i-th of them, valid until the next receive.
	datagram(i int) Datagram
}

// read drains fd into queue until the other end of wake is closed.
func read(fd, wake, limit int, queue *ring, full *atomic.Uint64) {
	b := newBatcher(fd)
	for closing := false; !closing; {
		closing = await(fd, wake)
		u := burst{began: time.Now()}
		deadline := u.began.Add(maxBurst)
		if closing {
			deadline = u.began.Add(drainTime)
		}
		for u.last = u.began; ; u.rest() {
			n, wasFull := drain(b, limit, queue, deadline)
			if wasFull {
				full.Add(1)
			}
			now := time.Now()
			if !u.goesOn(n, now) || now.After(deadline) || closing {
				break
			}
		}
		queue.flush()
	}
}

const (
	// burstGap is the mean time between datagrams below which the next one is
	// worth staying awake for: to fall asleep and be woken takes longer, and
	// the kernel may wake us on the sender's processor, behind the sender.
	burstGap = 20 * time.Microsecond
	// burstLength is how many datagrams make a burst, so that staying awake in
	// vain costs a few µs for each of them at most.
	burstLength = 16
	// maxBurst is how long a burst is read before we look whether the socket is
	// to be closed: a sender who never pauses must not keep it open.
	maxBurst = 50 * time.Millisecond
	// lingerTime is how long we stay awake after the last one.
	lingerTime = 100 * time.Microsecond
	// restTime is how long we leave a queue alone that we have just emptied,
	// for a system call takes as long for one datagram as for several. The
	// smallest queue takes ten times as long to fill up.
	restTime = 3 * time.Microsecond
)

// burst is what has come since the reading thread last woke up.
type burst struct {
	began, last time.Time // last: of a datagram
	datagrams   int
}

// goesOn notes that n datagrams were there at the time now, and tells whether
// more are to be expected in no time.
func (u *burst) goesOn(n int, now time.Time) bool {
	if n > 0 {
		u.datagrams += n
		u.last = now
	}
	return u.datagrams >= burstLength && now.Sub(u.began) < time.Duration(u.datagrams)*burstGap && now.Sub(u.last) < lingerTime
}

// rest lets some datagrams come together. It does not sleep.
func (u *burst) rest() {
	for start := time.Now(); time.Since(start) < restTime; {
		continue
	}
}

// drain empties the kernel's queue, until deadline. It tells
// whether it found the queue full, which is when the limit (and the one
// datagram more that the kernel lets in) came out at the first go: later ones
// may have been sent meanwhile.
func drain(b batcher, limit int, queue *ring, deadline time.Time) (drained int, full bool) {
	for calls := 0; ; calls++ {
		n, err := b.receive()
		if err != nil {
			// The kernel is short of memory, or worse; do not burn a core on it.
			time.Sleep(10 * time.Millisecond)
			return drained, full
		}
		if n == 0 {
			return drained, full
		}
		drained += n
		if limit > 0 && drained > limit && calls*batchLen <= limit {
			full = true
		}
		queue.put(n, b.datagram)
		if n < batchLen || time.Now().After(deadline) {
			return drained, full
		}
	}
}

// await waits until fd can be read, and tells whether it is to be closed.
func await(fd, wake int) (closing bool) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err == nil:
			return fds[1].Revents != 0
		case !errors.Is(err, unix.EINTR):
			// The kernel is short of memory; it will not be for ever.
			time.Sleep(10 * time.Millisecond)
		}
	}
}
