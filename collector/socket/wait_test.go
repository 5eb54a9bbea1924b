package socket

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waiting is a waiter whose socket is the end of a pipe, just after a datagram.
func waiting(t *testing.T) (w *waiter, send, stop func()) {
	t.Helper()
	var ends [2]*os.File
	w = &waiter{queue: newRing(), load: &load{pressure: new(pressure)}, last: time.Now()}
	for i := range ends {
		read, write, err := os.Pipe()
		must(t, err)
		t.Cleanup(func() { _ = read.Close(); _ = write.Close() })
		ends[i] = write
		w.polled[i] = unix.PollFd{Fd: int32(read.Fd()), Events: unix.POLLIN}
	}
	return w, func() { _, _ = ends[0].Write([]byte("x")) }, func() { _ = ends[1].Close() }
}

// When nothing more comes nobody else tells the decoder of the last datagram,
// and that it need not hold back any more.
func TestQuietEndsAFlood(t *testing.T) {
	w, _, stop := waiting(t)
	w.queue.senders.isNew(7)
	w.queue.put(1, func(int) Datagram { return Datagram{PID: 7} }, w.last)
	w.load.flooded.Store(true)
	closing := make(chan bool)
	go func() { closing <- w.await() }()
	select {
	case <-w.queue.ready:
	case <-time.After(patience):
		t.Error("the decoder was not told of the last datagram")
	}
	if w.load.flooded.Load() {
		t.Error("there is still a flood")
	}
	stop()
	if !<-closing {
		t.Error("the end was not seen")
	}
}

func TestDatagramsGatherWhileTheyComeOften(t *testing.T) {
	for _, tc := range []struct {
		what  string
		limit int
		some  bool
		slept time.Duration
		flood bool
		want  bool
	}{
		{"some came, and soon", longQueue, true, oftenTime - 1, false, true},
		{"a queue that may be full too soon", longQueue - 1, true, oftenTime - 1, false, false},
		{"none, or many", longQueue, false, oftenTime - 1, false, false},
		{"seldom", longQueue, true, oftenTime, false, false},
		{"too many", longQueue, true, oftenTime - 1, true, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			w, send, stop := waiting(t)
			w.load.limit, w.some, w.slept = tc.limit, tc.some, tc.slept
			w.load.flooded.Store(tc.flood)
			send()
			if w.await() {
				t.Error("an end that did not come")
			}
			// Whoever lets them gather does not look at the socket.
			if got := w.polled[0].Revents == 0; got != tc.want {
				t.Errorf("they gather: %v, want %v", got, tc.want)
			}
			stop()
			if !w.await() {
				t.Error("the end was not seen")
			}
		})
	}
}
