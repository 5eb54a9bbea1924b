package socket

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"clntrace/collector/voice"
)

const (
	// checkInterval is how often a Receiver checks that its socket is still in
	// place, and tries again if it could not bind. Users are told 10 s.
	checkInterval = 5 * time.Second
	// syncTime bounds Sync. What comes in handOverTime at the highest peak of
	// a real node takes a millisecond to decode.
	syncTime = 5 * time.Millisecond
	// drainTime bounds how long a socket that is being closed is read: a hundred
	// times what a full queue takes. Its file is gone by then, so that only a sender
	// that stays connected, as lightningd does not, can still send to it.
	drainTime = 200 * time.Millisecond
)

// Status is the state of a Receiver.
type Status struct {
	Path      string
	Listening bool
	Problem   string // why not, and what to do; empty when listening
	// QueueLimit is net.unix.max_dgram_qlen when the socket was made: one less than
	// the number of datagrams that the kernel queues. 0: unknown.
	QueueLimit int
	// QueueFull counts the drains that found the kernel's queue at its limit.
	QueueFull uint64
	// SenderFull counts the drains that found a sender's own buffer full. The buffer
	// has SenderBuffer bytes (0: unknown) and is full before a long queue is.
	SenderFull   uint64
	SenderBuffer int
	// Dropped counts datagrams that were received and for which the ring had no
	// room, and DroppedBytes their bytes.
	Dropped, DroppedBytes uint64
	// Rate is how many datagrams of users who may send came a second, in the last
	// minute, whether or not they have been taken.
	Rate float64
	// Refused counts datagrams of users who may not send, and RefusedBytes their
	// bytes.
	Refused, RefusedBytes uint64
	// Closed says why the users of Allow cannot send; empty if they can.
	Closed string
}

// Receiver listens on a path, while the socket there is its own.
type Receiver struct {
	path     string
	log      *slog.Logger
	voice    voice.Voice
	queue    *ring
	pressure pressure

	reading chan func() // work for the reading thread
	thread  chan int    // holds that thread's id

	mu      sync.Mutex
	socket  *boundSocket // nil: not listening
	problem error        // why not
	limit   int          // queue limit of the socket, or of the last one
	public  bool         // the socket should be open to all users
	shut    error        // why it is not

	closing   chan struct{}
	closed    chan struct{}
	closeOnce sync.Once
}

// Open binds a socket at path. If that fails, Status says why, in the words of v, and
// the Receiver tries again every checkInterval.
func Open(path string, log *slog.Logger, v voice.Voice) *Receiver {
	probeReceiving()
	r := &Receiver{
		path: path, log: log, voice: v, queue: newRing(),
		reading: make(chan func()), thread: make(chan int, 1),
		closing: make(chan struct{}), closed: make(chan struct{}),
	}
	go r.readingThread()
	r.check()
	go r.keep()
	return r
}

// Ready delivers a token when it is worth calling Take.
func (r *Receiver) Ready() <-chan struct{} { return r.queue.ready }

// Take appends to into at most that many datagrams of those received since the
// last call. Ready has a token if there are more, or as soon as there are; open
// reports whether there can be any. Take and Release are for one goroutine.
func (r *Receiver) Take(into []Datagram, most int) (list []Datagram, open bool) {
	return r.queue.take(into, most)
}

// Release gives back the room of all datagrams taken, which become invalid.
func (r *Receiver) Release() { r.queue.release() }

// Discard counts what has not been taken as Dropped, after Close. Like Take it is for
// one goroutine.
func (r *Receiver) Discard() { r.queue.discard() }

// Sync waits until all datagrams received by now have been taken and released,
// which otherwise can take handOverTime longer. It waits at most syncTime, and not
// at all in a flood, when there is no end to them.
func (r *Receiver) Sync() {
	if !r.Flooded() {
		r.queue.sync(syncTime)
	}
}

// Flooded reports whether datagrams come faster than they can be read, so that
// senders are being refused. Work that can wait should wait then: it takes the
// processor away from the reading thread.
func (r *Receiver) Flooded() bool { return r.pressure.flooded.Load() }

// Status returns the state of the Receiver.
func (r *Receiver) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{
		Rate: r.queue.rate.perSecond(time.Now()),
		Path: r.path, Listening: r.socket != nil, QueueLimit: r.limit, QueueFull: r.pressure.queueFull.Load(),
		SenderFull: r.pressure.senderFull.Load(), SenderBuffer: int(r.pressure.buffer.Load()),
		Dropped: r.queue.dropped.Load(), DroppedBytes: r.queue.droppedBytes.Load(),
		Refused: r.queue.refused.Load(), RefusedBytes: r.queue.refusedBytes.Load(),
	}
	if r.problem != nil {
		s.Problem = r.problem.Error()
	} else if failure := r.pressure.failure.Load(); failure != nil {
		s.Problem = fmt.Sprintf("reading from the trace socket %s: %v; if a seccomp filter forbids it, allow recvmsg, and if memory is short, free some", r.path, *failure)
	}
	if r.shut != nil {
		s.Closed = r.shut.Error()
	}
	return s
}

// Allow sets the users whose datagrams are accepted. open makes the socket
// writable for all users, which users other than root and our own need: file modes
// know no lists.
func (r *Receiver) Allow(users map[uint32]bool, open bool) {
	r.queue.allowed.Store(&users)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.public = open; open {
		r.widen()
	}
}

// widen opens the socket to all users. If that fails, check tries again.
func (r *Receiver) widen() {
	if r.socket == nil {
		return // bind will do it
	}
	before := r.shut
	r.shut = r.socket.file.openToAll(r.path)
	if r.shut != nil && (before == nil || before.Error() != r.shut.Error()) {
		r.log.Warn(fmt.Sprintf("the trace socket %s cannot be opened to other users: %v", r.path, r.shut))
	}
}

// Close removes the socket, if it is still the Receiver's own, and returns when
// everything that had been sent by then can be taken.
func (r *Receiver) Close() {
	r.closeOnce.Do(func() { close(r.closing) })
	<-r.closed
}

// readingThread is the goroutine that does all the reading, on a thread of its own
// that ends with it.
func (r *Receiver) readingThread() {
	runtime.LockOSThread()
	r.thread <- threadID()
	for read := range r.reading {
		read()
	}
}

// Prefer gives the reading thread precedence over all others of the process: their
// work can wait, and senders cannot. It needs no privilege, because it lowers the
// priority of the others, below that of the node's own processes too.
func (r *Receiver) Prefer() error {
	id := <-r.thread
	r.thread <- id
	// Returning from a system call needs one of the runtime's processors, and
	// waiting in one that the runtime does not know of occupies one. With one more
	// than it would have there is always one for the other goroutines. The price is
	// that GOMAXPROCS no longer follows changes of the container's CPU limit.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	return stepBack(id)
}

// keep watches over the socket until Close.
func (r *Receiver) keep() {
	defer close(r.closed)
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.check()
		case <-r.closing:
			r.drop()
			close(r.reading)
			r.queue.close()
			return
		}
	}
}

// check binds if there is no socket, or if its file is no longer in place.
func (r *Receiver) check() {
	r.mu.Lock()
	defer r.mu.Unlock()
	lost := false
	if r.socket != nil {
		if r.socket.file.inPlace(r.path) {
			if r.shut != nil {
				r.widen()
			}
			return
		}
		r.socket.close()
		r.socket, lost = nil, true
	}
	before := r.problem
	s, err := bind(r.path, r.public, r.voice)
	r.shut = nil // bind opens a public socket to all, or fails
	if err == nil {
		r.socket, r.limit = s, s.queueLimit
		r.reading <- func() { s.read(r.queue, &r.pressure) }
	}
	r.problem = err
	r.say(lost, before)
}

// say logs in one line what has changed: lost says that there was a socket, before
// is the problem that there was.
func (r *Receiver) say(lost bool, before error) {
	switch {
	case lost && r.problem == nil:
		r.log.Warn(fmt.Sprintf("the trace socket %s was removed or replaced by somebody else; it was bound anew", r.path))
	case lost:
		r.log.Warn(fmt.Sprintf("the trace socket was removed or replaced by somebody else, and no span can be received: %v", r.problem))
	case r.problem == nil && before != nil:
		r.log.Warn(fmt.Sprintf("listening for spans on %s", r.path))
	case r.problem != nil && (before == nil || before.Error() != r.problem.Error()):
		r.log.Warn(fmt.Sprintf("no span can be received: %v", r.problem))
	}
}

// drop closes the socket and removes its file.
func (r *Receiver) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.socket == nil {
		return
	}
	r.socket.file.remove(r.path)
	r.socket.close()
	r.socket = nil
}
