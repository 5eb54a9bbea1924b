package socket

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// How the thread waits. To sleep and be woken takes as long as to read ten
// datagrams, and the sender pays for half of it: so it is worth a thought.
const (
	// gatherTime is how long datagrams are left to gather in a long queue while
	// they come often. At the highest peak of a real node 8 come in that time;
	// 130 would still fit into their sender's own buffer.
	gatherTime = 500 * time.Microsecond
	// longQueue is the lowest limit of the kernel's queue that counts as long.
	longQueue = 128
	// oftenTime is the longest wait for the first of them.
	oftenTime = 2 * time.Millisecond
	// dozeTime is how long the thread waits for the next datagram without the
	// Go runtime's knowledge, provided that it waited no longer for the last
	// one. Most payments wait less than that for the network.
	dozeTime = 100 * time.Millisecond

	// handOverTime is the longest that a datagram waits for others before the
	// decoder is woken. To wake it takes as long as to decode fifty datagrams.
	handOverTime = 50 * time.Millisecond
	// maxBurst is how long the thread reads before it checks whether the socket
	// is to be closed: a sender that never pauses must not keep it open.
	maxBurst = 50 * time.Millisecond
	// hardship is how long the thread waits after an error, for instance when
	// the kernel is short of memory, so that it does not burn a core.
	hardship = 10 * time.Millisecond

	forever time.Duration = math.MaxInt64
)

// In a flood datagrams come faster than they can be processed, and some of them
// are refused.
const (
	// floodWindow is the time over which the rate of datagrams is taken.
	floodWindow = 10 * time.Millisecond
	// floodLength is how many in it are a flood. That is 100,000 a second: six
	// times the highest peak of a real node, and about what one core can decode
	// and export. At lower rates, putting that off would lose more than it gains.
	floodLength = 1000
	// backlog is how many waiting datagrams show that the thread is too slow,
	// even if the queue's limit is higher: a sender's own buffer
	// (net.core.wmem_default) holds some 170.
	backlog = 128
	// awakeTime is how long after a datagram the thread looks for the next one
	// without sleeping: in a flood only, because whoever gets the processor while
	// it sleeps can keep it for longer than the queue takes to fill.
	awakeTime = 200 * time.Microsecond
	// floodMemory is how long a flood lasts after a high rate, or a backlog, was
	// last seen. In the midst of a flood the thread may lose the processor, and
	// then sees neither.
	floodMemory = 100 * time.Millisecond
)

// pressure is what the reading thread tells others of its load.
type pressure struct {
	full    atomic.Uint64 // drains that found the kernel's queue at its limit
	crowded atomic.Uint64 // drains that found a sender's buffer full
	buffer  atomic.Int64  // of a sender, bytes; 0: unknown
	flooded atomic.Bool   // now
}

// batcher receives datagrams, as many at once as the system allows.
type batcher interface {
	// receive returns how many there are, 0 when the queue is empty.
	receive() (int, error)
	// datagram returns the i-th of them, valid until the next receive.
	datagram(i int) Datagram
}

// reader empties the kernel's queue into the ring. All of it runs on the
// reading thread.
type reader struct {
	batcher  batcher
	polled   [2]unix.PollFd // the socket; the end of a pipe that is closed to stop us
	limit    int            // of the kernel's queue; 0: unknown
	charges  *charges
	fewest   int // datagrams that can fill a sender's buffer
	queue    *ring
	pressure *pressure

	last  time.Time     // when a datagram was last read
	slept time.Duration // how long we last waited for one
	some  bool          // the last drain brought datagrams, but not many

	late   time.Time // when a backlog was last found
	rapid  time.Time // when the rate was last that of a flood
	window time.Time // when the current floodWindow began
	recent int       // datagrams in it
}

func newReader(fd, wake, limit int, queue *ring, p *pressure) *reader {
	c := measureCharges()
	p.buffer.Store(int64(c.buffer))
	return &reader{
		batcher: newBatcher(fd), limit: limit, charges: c, fewest: c.fewest(), queue: queue, pressure: p, slept: time.Hour,
		polled: [2]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}},
	}
}

// run reads until the other end of wake is closed, and then what is left.
func (r *reader) run() {
	for closing := false; !closing; {
		closing = r.await()
		lasts := maxBurst
		if closing {
			lasts = drainTime
		}
		n := r.drain(time.Now().Add(lasts))
		r.some = n > 0 && n < batchLen
	}
	r.pressure.flooded.Store(false)
	r.queue.flush()
}

// drain empties the kernel's queue, until deadline, and returns how many
// datagrams there were.
func (r *reader) drain(deadline time.Time) (drained int) {
	var waiting account
	for {
		n, err := r.batcher.receive()
		if err != nil {
			time.Sleep(hardship)
			return drained
		}
		if n == 0 {
			return drained
		}
		r.last = time.Now()
		r.weigh(drained, n)
		r.add(&waiting, drained, n)
		drained += n
		r.queue.put(n, r.batcher.datagram, r.last)
		if n < batchLen || r.last.After(deadline) {
			return drained
		}
	}
}

// add adds the n datagrams just read to the account of what each sender had
// waiting. Before is how many this drain had read already; beyond the queue's limit
// the account ends, because some of those were sent meanwhile.
func (r *reader) add(a *account, before, n int) {
	if before+n < r.fewest || before > r.limit || a.full {
		return
	}
	for i := range n {
		d := r.batcher.datagram(i)
		if a.add(&d, r.charges) {
			r.late = r.last
			r.pressure.crowded.Add(1)
			return
		}
	}
}

// weigh judges the load from the n datagrams just read and the before that this
// drain had read already. That many in one drain are a backlog, or a full queue. It
// may be a few too many, since some may have been sent during the drain.
func (r *reader) weigh(before, n int) {
	found := func(length int) bool { return before < length && before+n >= length }
	// The kernel lets in one datagram more than the limit.
	if r.limit > 0 && found(r.limit+1) {
		r.pressure.full.Add(1)
	}
	if found(backlog) || r.limit > 0 && found(r.limit+1) {
		r.late = r.last
	}
	r.recent += n
	if r.last.Sub(r.window) < floodWindow {
		return
	}
	if r.recent >= floodLength {
		r.rapid = r.last
	}
	r.window, r.recent = r.last, 0
	flood := r.last.Sub(r.rapid) < floodMemory && r.last.Sub(r.late) < floodMemory
	if flood {
		r.slept = 0 // to doze after it, and so notice its end
	}
	r.pressure.flooded.Store(flood)
}

// await waits until there may be something to read, and reports whether the
// socket is to be closed.
func (r *reader) await() (closing bool) {
	if r.gathers() {
		n, _ := doze(r.polled[1:], gatherTime)
		return n > 0
	}
	for start := time.Now(); ; {
		n, err := r.sleep()
		if err != nil && !errors.Is(err, unix.EINTR) {
			time.Sleep(hardship)
		}
		if n > 0 {
			r.slept = time.Since(start)
			return r.polled[1].Revents != 0
		}
	}
}

// gathers reports whether datagrams should be left to gather for a while, so that
// most of them do not have to wake the thread, and their senders need not do it.
func (r *reader) gathers() bool {
	return r.limit >= longQueue && r.some && r.slept < oftenTime && !r.pressure.flooded.Load()
}

// sleep waits for a datagram, or until there is something else to do. It wakes the
// decoder for datagrams that have waited long enough.
//
// While datagrams come it dozes. Waiting in a system call that the Go runtime knows
// of costs a dozen context switches: the runtime gives the thread's processor to
// others, starts its monitor, and has to find the thread a processor again, while
// the queue fills.
func (r *reader) sleep() (n int, err error) {
	now := time.Now()
	quiet := now.Sub(r.last)
	if quiet >= floodWindow {
		r.pressure.flooded.Store(false)
	}
	age := r.queue.age(now)
	if age >= handOverTime {
		r.queue.flush()
		age = 0
	}
	wait := forever
	dozing := r.slept < dozeTime && quiet < dozeTime
	if dozing {
		wait = dozeTime - quiet
	}
	if age > 0 {
		wait = min(wait, handOverTime-age)
	}
	if r.pressure.flooded.Load() {
		wait = min(wait, floodWindow-quiet)
		if quiet < awakeTime {
			wait = 0
		}
	}
	switch {
	case dozing:
		return doze(r.polled[:], wait)
	case wait < forever:
		return unix.Poll(r.polled[:], int(wait/time.Millisecond)+1)
	}
	return unix.Poll(r.polled[:], -1)
}
