package socket

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// To sleep and be woken takes as long as to read ten datagrams, and the sender pays
// for half of it.
const (
	// gatherTime is how long datagrams are left to gather in a long queue while
	// they come often. At the highest peak of a real node 8 come in that time;
	// 130 would still fit into their sender's own buffer.
	gatherTime = 500 * time.Microsecond
	// longQueue is the lowest limit of the kernel's queue that counts as long: four
	// times what a burst brings in gatherTime (25 in 200 us, measured on a node).
	longQueue = 128
	// oftenTime is the longest wait for a datagram after which others are expected
	// within gatherTime: on a node that is at work they come every millisecond.
	oftenTime = 2 * time.Millisecond
	// dozeTime is how long the thread waits for the next datagram without the
	// Go runtime's knowledge, provided that it waited no longer for the last
	// one. Most payments wait less than that for the network.
	dozeTime = 100 * time.Millisecond
	// awakeTime is how long after a datagram the thread looks for the next one
	// without sleeping: in a flood only, because whoever gets the processor while
	// it sleeps can keep it for longer than the queue takes to fill.
	awakeTime = 200 * time.Microsecond

	// lookPause is the time between two looks where poll fails: at a node's highest
	// peak, more than a queue of 10 holds comes in it, but most of the time less.
	lookPause = time.Millisecond

	forever time.Duration = math.MaxInt64
)

// waiter waits for datagrams. Only the reading thread uses it.
type waiter struct {
	polled  [2]unix.PollFd // the socket; the end of a pipe that is closed to stop us
	stopped *atomic.Bool   // we are to stop
	queue   *ring
	load    *load

	last  time.Time     // when a datagram was last read
	slept time.Duration // how long we last waited for one
	some  bool          // the last drain brought datagrams, but not many
}

func newWaiter(fd, wake int, stopped *atomic.Bool, queue *ring, l *load) *waiter {
	return &waiter{
		stopped: stopped, queue: queue, load: l, slept: time.Hour,
		polled: [2]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}},
	}
}

// await waits until there may be something to read, and reports whether the
// socket is to be closed.
func (w *waiter) await() (closing bool) {
	if w.gathers() {
		n, _ := doze(w.polled[1:], gatherTime)
		return n > 0
	}
	for start := time.Now(); ; {
		n, err := w.sleep()
		if err != nil && !errors.Is(err, unix.EINTR) {
			// Without a way to wait, look often.
			time.Sleep(lookPause)
			return w.stopped.Load()
		}
		if n > 0 {
			w.slept = time.Since(start)
			return w.polled[1].Revents != 0
		}
	}
}

// gathers reports whether datagrams should be left to gather for a while, so that
// most of them do not have to wake the thread, and their senders need not do it.
func (w *waiter) gathers() bool {
	return w.load.limit >= longQueue && w.some && w.slept < oftenTime && !w.load.flooded.Load()
}

// sleep waits for a datagram, or until there is something else to do. It wakes the
// decoder for datagrams that have waited long enough.
//
// While datagrams come it dozes. Waiting in a system call that the Go runtime knows
// of costs a dozen context switches: the runtime gives the thread's processor to
// others, starts its monitor, and has to find the thread a processor again, while
// the queue fills.
func (w *waiter) sleep() (n int, err error) {
	now := time.Now()
	quiet := now.Sub(w.last)
	flooded := w.load.flooded.Load()
	if flooded && quiet >= floodWindow {
		flooded = false
		w.load.flooded.Store(false)
	}
	// After a flood the thread dozes too, and so notices its end.
	dozing := (flooded || w.slept < dozeTime) && quiet < dozeTime
	wait := w.handOver(now)
	if dozing {
		wait = min(wait, dozeTime-quiet)
	}
	switch {
	case flooded && quiet < awakeTime:
		wait = 0
	case flooded:
		wait = min(wait, floodWindow-quiet)
	}
	switch {
	case dozing:
		return doze(w.polled[:], wait)
	case wait < forever:
		return poll(w.polled[:], int(wait/time.Millisecond)+1)
	}
	return poll(w.polled[:], -1)
}

// handOver wakes the decoder if datagrams have waited long enough for others, and
// returns in how long they will have; forever: none waits.
func (w *waiter) handOver(now time.Time) time.Duration {
	switch age := w.queue.age(now); {
	case age >= handOverTime:
		w.queue.flush()
	case age > 0:
		return handOverTime - age
	}
	return forever
}
