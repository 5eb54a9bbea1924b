package socket

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"
)

const (
	// checkInterval is how often a Receiver looks whether its socket is still
	// in place, and tries again where it could not bind.
	checkInterval = 5 * time.Second
	// drainTime bounds the reading of what is left when a socket is closed: its
	// file is gone by then, so only a sender who does not know our rules can
	// still fill it.
	drainTime = 200 * time.Millisecond
)

// Status is how a Receiver does.
type Status struct {
	Path      string
	Listening bool
	Problem   string // why not, and what to do; empty when listening
	// QueueLimit is how many datagrams the kernel keeps at most, less one; 0:
	// unknown. It was fixed when the socket was made.
	QueueLimit int
	// QueueFull counts the drains that found the kernel's queue at its limit.
	QueueFull uint64
	// SenderFull counts the drains that found a sender's own buffer full, which
	// holds SenderBuffer bytes (0: unknown) and ends before a long queue does.
	SenderFull   uint64
	SenderBuffer int
	// Dropped counts datagrams that were received and found no room, and
	// DroppedBytes their bytes.
	Dropped, DroppedBytes uint64
	// Refused counts datagrams of users who may not send.
	Refused, RefusedBytes uint64
	// Closed tells why the users of Allow cannot send; empty if they can.
	Closed string
}

// Receiver listens on a path, for as long as that path is its own.
type Receiver struct {
	path     string
	log      *slog.Logger
	queue    *ring
	pressure pressure

	reading chan func() // what the reading thread does
	thread  chan int    // its id

	mu      sync.Mutex
	socket  *boundSocket // nil: not listening
	problem error        // why not
	limit   int          // of the socket, or of the last one
	public  bool         // the socket is to be open to all users
	shut    error        // why it is not

	closing   chan struct{}
	closed    chan struct{}
	closeOnce sync.Once
}

// Open binds a socket at path, or says in Status why it cannot and tries again
// from time to time.
func Open(path string, log *slog.Logger) *Receiver {
	r := &Receiver{
		path: path, log: log, queue: newRing(),
		reading: make(chan func()), thread: make(chan int, 1),
		closing: make(chan struct{}), closed: make(chan struct{}),
	}
	go r.readingThread()
	r.check()
	go r.keep()
	return r
}

// Ready holds a token when it is worth calling Take.
func (r *Receiver) Ready() <-chan struct{} { return r.queue.ready }

// Take appends to into datagrams received since it was last called, most at
// most. If there are more, or as soon as there are, Ready has a token; open
// tells whether that can be. Take and Release are for one goroutine.
func (r *Receiver) Take(into []Datagram, most int) (list []Datagram, open bool) {
	return r.queue.take(into, most)
}

// Release gives back the room of all that was taken; those datagrams are no
// longer valid.
func (r *Receiver) Release() { r.queue.release() }

// Flooded tells that senders are being refused at this moment because datagrams
// come faster than they can be read. What can wait should: it takes the
// processor from the reading.
func (r *Receiver) Flooded() bool { return r.pressure.flooded.Load() }

// Status tells how the Receiver does.
func (r *Receiver) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{
		Path: r.path, Listening: r.socket != nil, QueueLimit: r.limit, QueueFull: r.pressure.full.Load(),
		SenderFull: r.pressure.crowded.Load(), SenderBuffer: int(r.pressure.buffer.Load()),
		Dropped: r.queue.dropped.Load(), DroppedBytes: r.queue.lost.Load(),
		Refused: r.queue.refused.Load(), RefusedBytes: r.queue.declined.Load(),
	}
	if r.problem != nil {
		s.Problem = r.problem.Error()
	}
	if r.shut != nil {
		s.Closed = r.shut.Error()
	}
	return s
}

// Allow sets the users whose datagrams are accepted. If there are others than
// ourselves and root the socket is opened to all, for the kernel knows no list.
func (r *Receiver) Allow(users map[uint32]bool, open bool) {
	r.queue.allowed.Store(&users)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.public = open; open {
		r.widen()
	}
}

// widen opens the socket to all users. Where that fails check tries again.
func (r *Receiver) widen() {
	if r.socket == nil {
		return // it will be made so
	}
	before := r.shut
	r.shut = r.socket.file.openToAll(r.path)
	if r.shut != nil && (before == nil || before.Error() != r.shut.Error()) {
		r.log.Warn(fmt.Sprintf("the trace socket %s cannot be opened to other users: %v", r.path, r.shut))
	}
}

// Close removes the socket if it is still the Receiver's own, and returns when
// what had been sent by then is there to Take.
func (r *Receiver) Close() {
	r.closeOnce.Do(func() { close(r.closing) })
	<-r.closed
}

// readingThread is the thread that does all the reading. It is locked to its
// goroutine, and ends with it.
func (r *Receiver) readingThread() {
	runtime.LockOSThread()
	r.thread <- threadID()
	for read := range r.reading {
		read()
	}
}

// Prefer gives the reading thread precedence over all others of the process:
// what they do can wait, and the senders cannot. That takes no privilege, for
// it is the others that step back, behind the node's own processes as well.
func (r *Receiver) Prefer() error {
	id := <-r.thread
	r.thread <- id
	// To come back from a system call, and to wait in one that the runtime does
	// not know of, takes one of its processors; with one more than it has there
	// is one left for all others. It no longer follows a change of the
	// container's share of the machine then.
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

// check binds if there is no socket, or if it is not in place any more.
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
	s, err := bind(r.path, r.public)
	r.shut = nil // bind does both or none
	if err == nil {
		r.socket, r.limit = s, s.queueLimit
		r.reading <- func() { s.read(r.queue, &r.pressure) }
	}
	r.problem = err
	r.say(lost, before)
}

// say logs what has changed, in one line: whether the socket was lost, and the
// problem before.
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
