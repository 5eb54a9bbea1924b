package socket

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

const (
	// maxDatagram is how much is read of a datagram, in bytes. lightningd sends at
	// most 2,048, so a longer one is not lightningd's.
	maxDatagram = 4096
	// ringSize bounds what waits to be decoded, in bytes: 50,000 spans, or 3 s at
	// the highest peak seen on a real node. It must be a power of two.
	ringSize = 16 << 20
	// rewindAt is how much of the ring is used while the decoder keeps up, in
	// bytes. The pages behind it stay untouched, and so out of memory, until they
	// are needed. After a rewind it is also all the room there is until the decoder
	// has followed.
	rewindAt = 4 << 20
	// wakeAt is how much may wait, in bytes, before the decoder is woken although
	// more is coming. Waking it takes as long as reading ten datagrams.
	wakeAt = 128 << 10
	// syncCheck is how often sync looks whether the decoder is done: often enough
	// within syncTime, and seldom enough not to take the processor from it.
	syncCheck = 100 * time.Microsecond
)

// Datagram is one message and who sent it.
type Datagram struct {
	Payload []byte // valid until Release
	// PID and UID are the sender's, if Known. PID is 0 if the process is not in our
	// pid namespace.
	PID   int32
	UID   uint32
	Known bool
	// Oversize says that Payload is only the beginning of the datagram.
	Oversize bool
}

// ring is the queue between the reading thread and the decoder, bounded in bytes.
// It has no lock: the decoder runs at a low priority (see Prefer), and a lock that
// it held while it did not get the processor would stop the reader.
//
// It contains records: a header and the payload, padded to alignment. head and
// tail count bytes since the start. Only the reader moves head, and only the
// decoder tail.
type ring struct {
	ready  chan struct{} // a token: it is worth calling take
	closed atomic.Bool   // nothing more will be put

	head         atomic.Uint64
	_            [7]uint64 // each on a cache line of its own
	tail         atomic.Uint64
	_            [7]uint64
	sleeping     atomic.Bool   // the decoder has taken everything and waits for a token
	dropped      atomic.Uint64 // datagrams for which there was no room
	droppedBytes atomic.Uint64
	refused      atomic.Uint64 // datagrams of users who may not send
	refusedBytes atomic.Uint64
	rate         *rate                           // of datagrams of users who may send
	allowed      atomic.Pointer[map[uint32]bool] // users who may; nil: all

	bytes []byte
	taken uint64 // used by the decoder alone: what it has taken ends here

	// Used by the reader alone:
	flushed uint64    // what the decoder has been told of ends here
	since   time.Time // when the first record behind that was put
	senders senders
}

// senders remembers the pids of processes that have sent lately: a node has some
// twenty that do. Two that share a place only wake the decoder more often.
type senders [64]int32

// isNew reports whether pid is not remembered, and remembers it.
func (s *senders) isNew(pid int32) bool {
	place := &s[uint32(pid)%uint32(len(s))] //nolint:gosec // never negative
	known := *place == pid
	*place = pid
	return !known
}

// A record begins with its payload's size, flags, pid and uid, 4 bytes each.
const (
	headerSize = 16
	alignment  = headerSize // so that there is always room for a header before the end

	flagKnown    = 1 << 0
	flagOversize = 1 << 1
	flagSkip     = 1 << 2 // not a datagram: continue at the start of the ring
)

func newRing() *ring {
	r := &ring{ready: make(chan struct{}, 1), bytes: make([]byte, ringSize), rate: newRate()}
	r.sleeping.Store(true)
	return r
}

// recordSize is the room that a payload of n bytes takes.
func recordSize(n int) uint64 {
	return uint64(headerSize + (n+alignment-1)&^(alignment-1)) //nolint:gosec // never negative
}

// put appends n datagrams. It counts those for which there is no room, and those of
// users who may not send, which must not take room from others. The decoder may
// learn of the new ones only at the next flush; but it is told at once of a new
// sender, whose name can be found out only while the process exists.
func (r *ring) put(n int, datagram func(i int) Datagram, now time.Time) {
	head := r.head.Load()
	if head == r.flushed {
		r.since = now
	}
	allowed := r.allowed.Load()
	urgent, accepted := false, int64(0)
	for i := range n {
		d := datagram(i)
		if d.Known && allowed != nil && !(*allowed)[d.UID] {
			r.refused.Add(1)
			r.refusedBytes.Add(uint64(len(d.Payload)))
			continue
		}
		accepted++
		next, ok := r.write(head, &d)
		if !ok {
			r.dropped.Add(1)
			r.droppedBytes.Add(uint64(len(d.Payload)))
		}
		head = next
		urgent = urgent || r.senders.isNew(d.PID)
	}
	r.head.Store(head)
	r.rate.add(accepted, now)
	if urgent || head-r.tail.Load() > wakeAt || r.age(now) >= handOverTime {
		r.flush()
	}
}

// age is how long ago the first datagram was put of which the decoder has not been
// told; 0: there is none.
func (r *ring) age(now time.Time) time.Duration {
	if r.head.Load() == r.flushed {
		return 0
	}
	return max(now.Sub(r.since), 1) // the clock may not have moved on since
}

// flush tells the decoder of everything that has been put.
func (r *ring) flush() {
	r.flushed = r.head.Load()
	if r.head.Load() != r.tail.Load() && r.sleeping.CompareAndSwap(true, false) {
		r.wake()
	}
}

// sync wakes the decoder for everything that has been put, and waits until it has
// released that, but not longer than limit. Any goroutine may call it.
func (r *ring) sync(limit time.Duration) {
	head := r.head.Load()
	for start := time.Now(); r.tail.Load() < head && time.Since(start) < limit; time.Sleep(syncCheck) {
		if r.sleeping.CompareAndSwap(true, false) {
			r.wake()
		}
	}
}

func (r *ring) wake() {
	select {
	case r.ready <- struct{}{}:
	default: // there is a token already
	}
}

// close tells the decoder that nothing more will be put.
func (r *ring) close() {
	r.closed.Store(true)
	r.wake()
}

// write puts d at head and returns where the next record goes, which is head if
// there is no room for d.
func (r *ring) write(head uint64, d *Datagram) (next uint64, ok bool) {
	tail := r.tail.Load()
	size := recordSize(len(d.Payload))
	left := ringSize - head%ringSize // before the end
	skip := uint64(0)
	if left < size || (head == tail && head%ringSize >= rewindAt) {
		skip = left // and continue at the start
	}
	if head+skip+size-tail > ringSize {
		return head, false
	}
	if skip > 0 {
		r.writeHeader(head, uint32(skip-headerSize), flagSkip, 0, 0) //nolint:gosec // within the ring
		head += skip
	}
	flags := uint32(0)
	if d.Known {
		flags |= flagKnown
	}
	if d.Oversize {
		flags |= flagOversize
	}
	r.writeHeader(head, uint32(len(d.Payload)), flags, uint32(d.PID), d.UID) //nolint:gosec // 32 bits as such
	copy(r.bytes[head%ringSize+headerSize:], d.Payload)
	return head + size, true
}

func (r *ring) writeHeader(at uint64, size, flags, pid, uid uint32) {
	h := r.bytes[at%ringSize:][:headerSize]
	binary.NativeEndian.PutUint32(h[0:], size)
	binary.NativeEndian.PutUint32(h[4:], flags)
	binary.NativeEndian.PutUint32(h[8:], pid)
	binary.NativeEndian.PutUint32(h[12:], uid)
}

// take appends to into at most that many of the datagrams that wait. ready has a
// token if there are more, or as soon as there are; open reports whether there can
// be any.
func (r *ring) take(into []Datagram, most int) (list []Datagram, open bool) {
	closed := r.closed.Load() // before head, which is final once this is set
	head := r.head.Load()
	for n := 0; n < most && r.taken != head; {
		h := r.bytes[r.taken%ringSize:]
		size, flags := binary.NativeEndian.Uint32(h[0:]), binary.NativeEndian.Uint32(h[4:])
		r.taken += recordSize(int(size))
		if flags&flagSkip != 0 {
			continue
		}
		into = append(into, Datagram{
			Payload: h[headerSize : headerSize+size : headerSize+size],
			PID:     int32(binary.NativeEndian.Uint32(h[8:])), //nolint:gosec // 32 bits as such
			UID:     binary.NativeEndian.Uint32(h[12:]),
			Known:   flags&flagKnown != 0, Oversize: flags&flagOversize != 0,
		})
		n++
	}
	if r.taken != head {
		r.wake()
		return into, true
	}
	r.sleeping.Store(true)
	// More may have come after head was loaded, and a flush before sleeping was set
	// has woken nobody.
	if r.head.Load() != head && r.sleeping.CompareAndSwap(true, false) {
		r.wake()
	}
	return into, !closed
}

// discard drops what waits, once the ring has been closed. It is for the goroutine
// that takes.
func (r *ring) discard() {
	for head := r.head.Load(); r.taken != head; {
		h := r.bytes[r.taken%ringSize:]
		size, flags := binary.NativeEndian.Uint32(h[0:]), binary.NativeEndian.Uint32(h[4:])
		r.taken += recordSize(int(size))
		if flags&flagSkip == 0 {
			r.dropped.Add(1)
			r.droppedBytes.Add(uint64(size))
		}
	}
	r.release()
}

// release gives back the room of what was taken.
func (r *ring) release() { r.tail.Store(r.taken) }
