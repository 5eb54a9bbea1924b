package socket

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"clntrace/collector/voice"
)

// nobody is a user without rights, who need not exist.
const nobody = 65534

// asNobody runs f without rights: as root in a thread that gives them up, and
// ends.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can become another user")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, so nothing else runs in it
		// The usual functions change all threads.
		for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			if _, _, errno := unix.RawSyscall(call, nobody, nobody, nobody); errno != 0 {
				done <- fmt.Errorf("becoming user %d: %w", nobody, errno)
				return
			}
		}
		f()
		done <- nil
	}()
	must(t, <-done)
}

func kernelsLimit(t *testing.T) (limit int) {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/unix/max_dgram_qlen")
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	if _, err := fmt.Sscan(string(text), &limit); err != nil || limit < 1 {
		t.Fatalf("the kernel's limit is %q (%v)", text, err)
	}
	return limit
}

func TestQueueLimitIsTheKernels(t *testing.T) {
	r, _ := openListening(t, filepath.Join(tempDir(t), "t"))
	if got, want := r.Status().QueueLimit, kernelsLimit(t); got != want {
		t.Errorf("the limit is %d, want %d", got, want)
	}
	r.Close()
	if got, want := r.Status().QueueLimit, kernelsLimit(t); got != want {
		t.Errorf("after Close the limit is %d, want still %d", got, want)
	}
}

// readAtOnce reads what is in the kernel's queue and closes the socket. Unlike
// read it takes all in one drain, however long the machine keeps it waiting.
func (s *boundSocket) readAtOnce(queue *ring, p *pressure) {
	newReader(s.fd, int(s.wakeRead.Fd()), s.queueLimit, &s.stopped, queue, p).drain(time.Now().Add(patience))
	go s.read(queue, p)
	s.close()
}

// The kernel refuses when the queue holds more than its limit, and that is
// when the receiver says that it was full.
func TestFullQueueOfTheKernelIsNoticed(t *testing.T) {
	limit := kernelsLimit(t)
	if limit > 100 {
		t.Skipf("skipped: a sender's buffer ends before a queue of %d", limit)
	}
	for _, tc := range []struct {
		name string
		sent int
		full uint64
	}{{"at the limit", limit, 0}, {"full", limit + 1, 1}} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "t")
			s, err := bind(path, false, voice.Plugin) // nobody reads yet
			must(t, err)
			fd := dial(t, path)
			for i := range tc.sent {
				if err := unix.Sendto(fd, []byte("x"), unix.MSG_DONTWAIT, nil); err != nil {
					t.Fatalf("datagram %d of a queue of %d: %v", i+1, limit, err)
				}
			}
			if tc.full > 0 {
				if err := unix.Sendto(fd, []byte("x"), unix.MSG_DONTWAIT, nil); err != unix.EAGAIN {
					t.Errorf("a queue of %d takes %d: %v", limit, tc.sent+1, err)
				}
			}
			h := newRing()
			var p pressure
			s.readAtOnce(h, &p)
			if got := p.queueFull.Load(); got != tc.full {
				t.Errorf("full %d times, want %d", got, tc.full)
			}
			if got := len(takeFrom(h, 1<<20)); got != tc.sent {
				t.Errorf("%d datagrams, want %d", got, tc.sent)
			}
		})
	}
}

func TestSenderIsKnown(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	openToAll(r)
	expect := func(t *testing.T, pid, uid int) {
		t.Helper()
		d := receive(t, r, 1)[0]
		if !d.Known || int(d.PID) != pid || int(d.UID) != uid {
			t.Errorf("got pid %d and uid %d (known: %v), want %d and %d", d.PID, d.UID, d.Known, pid, uid)
		}
	}
	t.Run("this process", func(t *testing.T) {
		send(t, dial(t, path), "x")
		expect(t, os.Getpid(), os.Getuid())
	})
	t.Run("nothing sent", func(t *testing.T) {
		send(t, dial(t, path), "")
		expect(t, os.Getpid(), os.Getuid())
	})
	t.Run("another process, gone by now", func(t *testing.T) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), sendTo+"="+path, "GORACE=atexit_sleep_ms=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		expect(t, cmd.Process.Pid, os.Getuid())
	})
	t.Run("another user", func(t *testing.T) {
		asNobody(t, func() {
			fd, err := connect(path)
			if err == nil {
				err = unix.Sendto(fd, []byte("x"), 0, nil)
			}
			if err != nil {
				t.Error(err)
			}
			_ = unix.Close(fd)
		})
		if !t.Failed() {
			expect(t, os.Getpid(), nobody)
		}
	})
	t.Run("who claims to be another", func(t *testing.T) {
		fd := dial(t, path)
		forged := unix.UnixCredentials(&unix.Ucred{Pid: int32(os.Getppid()), Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())})
		err := unix.Sendmsg(fd, []byte("x"), forged, nil, 0)
		if os.Geteuid() == 0 {
			must(t, err) // root may
			expect(t, os.Getppid(), os.Getuid())
		} else if err != unix.EPERM {
			t.Errorf("the kernel let it: %v", err)
		}
	})
}

// Without clntrace-allow-uids, not even the kernel lets a stranger send.
func TestStrangerCannotSend(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	openListening(t, path)
	asNobody(t, func() {
		if fd, err := connect(path); err != unix.EACCES {
			t.Errorf("a stranger got descriptor %d, %v", fd, err)
		}
	})
}

// A sender can pass descriptors along; they must not pile up here.
func TestDescriptorsAreNotTaken(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	fd := dial(t, path)
	read, write, err := os.Pipe()
	must(t, err)
	defer func() { _ = read.Close() }()
	w := int(write.Fd())
	for range 5 {
		must(t, unix.Sendmsg(fd, []byte("x"), unix.UnixRights(w, w, w), nil, 0))
	}
	for _, d := range receive(t, r, 5) {
		if !d.Known || int(d.PID) != os.Getpid() || d.Oversize || string(d.Payload) != "x" {
			t.Errorf("got %+v", d)
		}
	}
	must(t, write.Close())
	// The pipe has ended if nobody else holds the end that is written to.
	poll := []unix.PollFd{{Fd: int32(read.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 0); n != 1 || poll[0].Revents&unix.POLLHUP == 0 {
		t.Errorf("the receiver holds what was passed (%d, %v)", n, err)
	}
}

func TestDirectoryWithoutTheRightToWrite(t *testing.T) {
	dir := tempDir(t)
	path := filepath.Join(dir, "t")
	asNobody(t, func() {
		s, err := bind(path, false, voice.Plugin)
		if err == nil {
			t.Errorf("bound %+v", s)
			return
		}
		for _, part := range []string{fmt.Sprintf("user %d may not make a socket in %s", nobody, dir), "permission denied", "set CLN_TRACE_SOCKET to another path"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("it does not say %q: %v", part, err)
			}
		}
	})
	if left := look(t, path); left != "nothing" {
		t.Errorf("left behind: %s", left)
	}
}

func TestSocketOfAnotherUserIsLeftAloneAndNamed(t *testing.T) {
	for _, live := range []bool{true, false} {
		t.Run(fmt.Sprint("live ", live), func(t *testing.T) {
			dir := tempDir(t)
			must(t, os.Chmod(dir, 0o777|os.ModeSticky)) //nolint:gosec // as /tmp has it
			path := filepath.Join(dir, "t")
			stop := listenAt(t, path, unix.SOCK_DGRAM)
			must(t, os.Chmod(path, 0o600))
			if !live {
				stop()
			}
			before := look(t, path)
			asNobody(t, func() {
				s, err := bind(path, false, voice.Plugin)
				if err == nil {
					t.Errorf("bound %+v", s)
					return
				}
				for _, part := range []string{path, "of another user", "; set CLN_TRACE_SOCKET to another path"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("it does not say %q: %v", part, err)
					}
				}
			})
			if after := look(t, path); after != before {
				t.Errorf("there was %s, there is %s", before, after)
			}
		})
	}
}

// Who can make a socket where ours is to be gets the node's spans.
func TestListenerOfAnotherUserIsNamed(t *testing.T) {
	dir := tempDir(t)
	must(t, os.Chmod(dir, 0o777))
	path := filepath.Join(dir, "t")
	asNobody(t, func() { listenAt(t, path, unix.SOCK_DGRAM) })
	_, err := bind(path, false, voice.Plugin)
	if want := fmt.Sprintf("one of user %d, who may be getting this node's spans", nobody); !errors.Is(err, errLive) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %v with %q", err, errLive, want)
	}
}

// On one processor whoever waits without the Go runtime's knowledge keeps all
// others from running, until a signal ends the wait with EINTR.
func TestDozeLeavesTheOnlyProcessorToOthers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	read, write, err := os.Pipe()
	must(t, err)
	defer func() { _ = read.Close() }()
	fds := []unix.PollFd{{Fd: int32(read.Fd()), Events: unix.POLLIN}}
	ended := make(chan error)
	begun := make(chan struct{}, 1)
	go func() {
		begun <- struct{}{}
		n, err := doze(fds, patience)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d ends of a pipe are closed", n)
		}
		ended <- err
	}()
	<-begun
	must(t, write.Close())
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What a connected sender could send before it was refused has been read, and counted.
func TestCloseReadsAllOfAFlood(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	fd, err := connect(path)
	must(t, err)
	must(t, unix.SetNonblock(fd, false))
	sent, started, ended := uint64(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for payload := make([]byte, 100); ; sent++ {
			if _, err := unix.Write(fd, payload); err != nil {
				return
			}
			if sent == 100 {
				close(started)
			}
		}
	}()
	<-started
	r.Close()
	<-ended // it is refused
	must(t, unix.Close(fd))
	if got := uint64(len(receive(t, r, -1))) + r.Status().Dropped; got != sent {
		t.Errorf("%d datagrams were sent, %d came", sent, got)
	}
}
