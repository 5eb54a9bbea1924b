package socket

import (
	"sync/atomic"
	"time"
)

const (
	// handOverTime is the longest that a datagram waits for others before the
	// decoder is woken. To wake it takes as long as to decode fifty datagrams.
	handOverTime = 50 * time.Millisecond
	// maxBurst is how long the thread reads before it checks whether the socket
	// is to be closed: a sender that never pauses must not keep it open.
	maxBurst = 50 * time.Millisecond
	// errorPause is how long the thread waits after an error, for instance when
	// the kernel is short of memory, so that it does not burn a core.
	errorPause = 10 * time.Millisecond
)

// batcher receives datagrams, as many at once as the system allows.
type batcher interface {
	// receive returns how many there are, 0 when the queue is empty.
	receive() (int, error)
	// most is how many it returns at once, so that fewer mean that the queue is empty.
	most() int
	// datagram returns the i-th of them, valid until the next receive.
	datagram(i int) Datagram
}

// reader empties the kernel's queue into the ring. All of it runs on the
// reading thread.
type reader struct {
	batcher batcher
	queue   *ring
	load    *load
	wait    *waiter
}

func newReader(fd, wake, limit int, stopped *atomic.Bool, queue *ring, p *pressure) *reader {
	l := newLoad(limit, p)
	return &reader{batcher: newBatcher(fd), queue: queue, load: l, wait: newWaiter(fd, wake, stopped, queue, l)}
}

// run reads until the other end of wake is closed, and then what is left.
func (r *reader) run() {
	for closing := false; !closing; {
		closing = r.wait.await()
		lasts := maxBurst
		if closing {
			lasts = drainTime
		}
		n := r.drain(time.Now().Add(lasts))
		r.wait.some = n > 0 && n < batchLen
	}
	r.load.flooded.Store(false)
	r.queue.flush()
}

// drain empties the kernel's queue, until deadline, and returns how many
// datagrams there were.
func (r *reader) drain(deadline time.Time) (drained int) {
	for {
		n, err := r.batcher.receive()
		if err != nil {
			r.load.failure.Store(&err)
			time.Sleep(errorPause)
			return drained
		}
		if r.load.failure.Load() != nil {
			r.load.failure.Store(nil)
		}
		if n == 0 {
			return drained
		}
		now := time.Now()
		r.wait.last = now
		r.load.observe(drained, n, r.batcher.datagram, now)
		drained += n
		r.queue.put(n, r.batcher.datagram, now)
		if n < r.batcher.most() || now.After(deadline) {
			return drained
		}
	}
}
