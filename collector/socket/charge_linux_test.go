package socket

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"clntrace/collector/voice"
)

// inNamespace runs f where the kernel's queue has that limit: as root, in a
// thread with a network namespace of its own, which ends with it.
func inNamespace(t *testing.T, limit string, f func()) {
	t.Helper()
	type outcome struct {
		skip string
		err  error
	}
	done := make(chan outcome)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- outcome{skip: "no network namespace of our own: " + err.Error()}
			return
		}
		if err := os.WriteFile("/proc/sys/net/unix/max_dgram_qlen", []byte(limit), 0); err != nil {
			done <- outcome{skip: "the queue's limit cannot be set: " + err.Error()}
			return
		}
		f()
		done <- outcome{}
	}()
	o := <-done
	if o.skip != "" {
		t.Skip("skipped: " + o.skip)
	}
	must(t, o.err)
}

// A sender is refused when its own buffer is full, and that is when the
// receiver says so: not one datagram earlier, whatever their size.
func TestFullBufferOfASenderIsNoticed(t *testing.T) {
	for _, size := range []int{1, 300, 600, 2047} {
		for _, tc := range []struct {
			what       string
			less       int
			senderFull uint64
		}{{"full", 0, 1}, {"one less", 1, 0}} {
			inNamespace(t, "512", func() {
				most := overfill(t, size, 1<<20, 0)
				if most > 512 {
					t.Errorf("%d datagrams of %d bytes are within a sender's buffer, and fill the queue", most, size)
					return
				}
				overfill(t, size, most-tc.less, tc.senderFull)
			})
		}
	}
}

// overfill sends up to most datagrams of size bytes to a socket that nobody reads,
// and returns how many it took. When they are read a sender's buffer must have
// been found full that often, unless most is as many as can be.
func overfill(t *testing.T, size, most int, senderFull uint64) (sent int) {
	path := filepath.Join(tempDir(t), "t")
	s, err := bind(path, false, voice.Plugin)
	if err != nil {
		t.Error(err)
		return 0
	}
	fd := dial(t, path)
	for ; sent < most && unix.Sendto(fd, make([]byte, size), unix.MSG_DONTWAIT, nil) == nil; sent++ {
	}
	queue, p := newRing(), new(pressure)
	s.readAtOnce(queue, p)
	if got := p.senderFull.Load(); most < 1<<20 && (got != senderFull || p.queueFull.Load() != 0) {
		t.Errorf("%d of %d bytes: a sender's buffer was full %d times, want %d, and the queue %d times", sent, size, got, senderFull, p.queueFull.Load())
	}
	return sent
}

func TestChargesAreAskedFor(t *testing.T) {
	c := measureCharges()
	if c.buffer < 4096 {
		t.Fatalf("a sender's buffer has %d bytes", c.buffer)
	}
	for n := 1; n <= maxDatagram; n++ {
		if c.of(n) < n || c.of(n) < c.of(n-1) {
			t.Fatalf("%d bytes are charged as %d, and %d as %d", n, c.of(n), n-1, c.of(n-1))
		}
	}
	t.Logf("a sender's buffer of %d bytes holds %d spans of 300 bytes and %d of 2047", c.buffer, c.buffer/c.of(300)+1, c.buffer/c.of(2047)+1)
}

// Where /proc does not show the kernel's limit it is measured, also where senders'
// buffers end before the queue does.
func TestQueueLimitIsMeasured(t *testing.T) {
	for _, limit := range []string{"1", "10", "511", "512", "2000"} {
		inNamespace(t, limit, func() {
			if got := strconv.Itoa(measureLimit()); got != limit {
				t.Errorf("the limit is %s, measured was %s", limit, got)
			}
		})
	}
	shown := limitFile
	defer func() { limitFile = shown }()
	limitFile = "/nonexistent"
	if got, want := queueLimit(), measureLimit(); got != want || got == 0 {
		t.Errorf("the limit is %d, want %d", got, want)
	}
}
