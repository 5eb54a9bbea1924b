package socket

import (
	"sync/atomic"
	"time"
)

// In a flood datagrams come faster than they can be processed, and some of them
// are refused.
const (
	// floodWindow is the time over which the rate of datagrams is taken: long enough
	// to hold a thousand of them, and short beside floodMemory.
	floodWindow = 10 * time.Millisecond
	// floodLength is how many in it are a flood. That is 100,000 a second: six
	// times the highest peak of a real node, and about what one core can decode
	// and export. At lower rates, putting that off would lose more than it gains.
	floodLength = 1000
	// backlog is how many waiting datagrams show that the thread is too slow,
	// even if the queue's limit is higher: a sender's own buffer
	// (net.core.wmem_default) holds some 170.
	backlog = 128
	// floodMemory is how long a flood lasts after a high rate, or a backlog, was
	// last seen. In the midst of a flood the thread may lose the processor, and
	// then sees neither. The scheduler gives it back within some tens of
	// milliseconds.
	floodMemory = 100 * time.Millisecond
)

// pressure is what the reading thread tells others of its load. It outlives the
// socket.
type pressure struct {
	queueFull  atomic.Uint64         // drains that found the kernel's queue at its limit
	senderFull atomic.Uint64         // drains that found a sender's buffer full
	buffer     atomic.Int64          // of a sender, bytes; 0: unknown
	flooded    atomic.Bool           // now
	failure    atomic.Pointer[error] // why nothing can be read now; nil: it can
}

// load judges how busy a socket is, from how many datagrams its drains find. Only
// the reading thread uses it.
type load struct {
	*pressure
	limit   int // of the kernel's queue; 0: unknown
	charges *charges
	fewest  int     // datagrams that can fill a sender's buffer
	waiting account // of the current drain

	backlogAt time.Time // when a backlog was last found
	fastAt    time.Time // when the rate was last that of a flood
	window    time.Time // when the current floodWindow began
	count     int       // datagrams in it
}

func newLoad(limit int, p *pressure) *load {
	c := chargesOfKernel()
	p.buffer.Store(int64(c.buffer))
	return &load{pressure: p, limit: limit, charges: c, fewest: c.fewest()}
}

// observe takes the n datagrams that were read at now, by a drain that had read
// before others already.
func (l *load) observe(before, n int, datagram func(i int) Datagram, now time.Time) {
	l.observeQueue(before, n, now)
	l.observeBuffers(before, n, datagram, now)
	l.observeRate(n, now)
}

// observeQueue looks for a backlog, and for a full queue. It may find a few too many,
// since some datagrams may have been sent during the drain.
func (l *load) observeQueue(before, n int, now time.Time) {
	reached := func(length int) bool { return before < length && before+n >= length }
	// The kernel lets in one datagram more than the limit.
	full := l.limit > 0 && reached(l.limit+1)
	if full {
		l.queueFull.Add(1)
	}
	if full || reached(backlog) {
		l.backlogAt = now
	}
}

// observeBuffers adds up what each sender of this drain had waiting, and notices one
// that has filled its buffer. Beyond the queue's limit it stops, because some
// datagrams were sent meanwhile.
func (l *load) observeBuffers(before, n int, datagram func(i int) Datagram, now time.Time) {
	if before == 0 {
		l.waiting = account{}
	}
	if before+n < l.fewest || before > l.limit || l.waiting.full {
		return
	}
	for i := range n {
		d := datagram(i)
		if l.waiting.add(&d, l.charges) {
			l.backlogAt = now
			l.senderFull.Add(1)
			return
		}
	}
}

// observeRate decides at the end of each floodWindow whether there is a flood.
func (l *load) observeRate(n int, now time.Time) {
	l.count += n
	if now.Sub(l.window) < floodWindow {
		return
	}
	if l.count >= floodLength {
		l.fastAt = now
	}
	l.window, l.count = now, 0
	l.flooded.Store(now.Sub(l.fastAt) < floodMemory && now.Sub(l.backlogAt) < floodMemory)
}
