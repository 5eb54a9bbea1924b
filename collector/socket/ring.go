package socket

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

const (
	// maxDatagram is what is read of one datagram, in bytes; lightningd sends
	// 2,048 at most, and more tells that it is not lightningd's.
	maxDatagram = 4096
	// ringSize bounds what waits to be decoded, in bytes: 50,000 spans, 3 s of
	// the highest peak that a real node has shown. A power of two.
	ringSize = 16 << 20
	// rewindAt is the part of the ring that is used while the decoder keeps up,
	// in bytes. The rest is not even in memory before it is needed. It is also
	// all the room there is from a rewind until the decoder has seen that.
	rewindAt = 4 << 20
	// wakeAt is how much may wait before the decoder is woken although more is
	// coming, in bytes. To wake it takes as long as to read ten datagrams.
	wakeAt = 128 << 10
)

// Datagram is one message and who sent it.
type Datagram struct {
	Payload []byte // valid until Release
	// PID and UID are the sender's, if Known. PID is 0 for a process outside of
	// our pid namespace.
	PID   int32
	UID   uint32
	Known bool
	// Oversize tells that Payload is only the beginning.
	Oversize bool
}

// ring is the queue between the reading thread and the decoder, bounded in
// bytes. It has no lock: the decoder steps back behind everybody (see Prefer),
// and a lock that it held when it lost the processor would stop the reader.
//
// It holds records: a header, then the payload, padded to alignment. head and
// tail count bytes since the beginning; only the reader moves head, only the
// decoder tail.
type ring struct {
	ready  chan struct{} // one token: it is worth calling take
	closed atomic.Bool   // nothing more will be put

	head     atomic.Uint64
	_        [7]uint64 // each on a cache line of its own
	tail     atomic.Uint64
	_        [7]uint64
	sleeping atomic.Bool                     // the decoder has found nothing more and waits for a token
	dropped  atomic.Uint64                   // datagrams for which there was no room
	lost     atomic.Uint64                   // their bytes
	refused  atomic.Uint64                   // datagrams of users who may not send
	declined atomic.Uint64                   // their bytes
	allowed  atomic.Pointer[map[uint32]bool] // users who may; nil: all

	bytes []byte
	taken uint64 // by the decoder, up to here

	// Of the reader alone:
	flushed uint64    // what the decoder was told of, up to here
	since   time.Time // when the first was put that it was not
	senders senders
}

// senders remembers processes that have sent lately, by pid.
type senders [64]int32

// isNew tells whether pid is none that it remembers.
func (s *senders) isNew(pid int32) bool {
	place := &s[uint32(pid)%uint32(len(s))] //nolint:gosec // never negative
	known := *place == pid
	*place = pid
	return !known
}

// A record begins with its payload's size, flags, pid and uid, 4 bytes each.
const (
	headerSize = 16
	alignment  = headerSize // so that what is left before the end has room for a header

	flagKnown    = 1 << 0
	flagOversize = 1 << 1
	flagSkip     = 1 << 2 // no datagram: go on at the start of the ring
)

func newRing() *ring {
	r := &ring{ready: make(chan struct{}, 1), bytes: make([]byte, ringSize)}
	r.sleeping.Store(true)
	return r
}

// recordSize is the room that a payload of n bytes takes.
func recordSize(n int) uint64 {
	return uint64(headerSize + (n+alignment-1)&^(alignment-1)) //nolint:gosec // never negative
}

// put appends n datagrams, and counts those for which there is no room and
// those of users who may not send: they shall not take room from others. The
// decoder may hear of them only at the next flush, but at once of a new sender,
// who may not live for long: then nobody could say any more who it was.
func (r *ring) put(n int, datagram func(i int) Datagram, now time.Time) {
	head := r.head.Load()
	if head == r.flushed {
		r.since = now
	}
	allowed := r.allowed.Load()
	urgent := false
	for i := range n {
		d := datagram(i)
		if d.Known && allowed != nil && !(*allowed)[d.UID] {
			r.refused.Add(1)
			r.declined.Add(uint64(len(d.Payload)))
			continue
		}
		next, ok := r.write(head, &d)
		if !ok {
			r.dropped.Add(1)
			r.lost.Add(uint64(len(d.Payload)))
		}
		head = next
		urgent = urgent || r.senders.isNew(d.PID)
	}
	r.head.Store(head)
	if urgent || head-r.tail.Load() > wakeAt || r.age(now) >= handOverTime {
		r.flush()
	}
}

// age is how long the oldest datagram waits that the decoder was not told of;
// 0: there is none.
func (r *ring) age(now time.Time) time.Duration {
	if r.head.Load() == r.flushed {
		return 0
	}
	return max(now.Sub(r.since), 1) // not every clock has moved on since it came
}

// flush lets the decoder know what has been put.
func (r *ring) flush() {
	r.flushed = r.head.Load()
	if r.head.Load() != r.tail.Load() && r.sleeping.CompareAndSwap(true, false) {
		r.wake()
	}
}

func (r *ring) wake() {
	select {
	case r.ready <- struct{}{}:
	default: // a token is there that nobody has taken yet
	}
}

// close tells the decoder that nothing more will be put.
func (r *ring) close() {
	r.closed.Store(true)
	r.wake()
}

// write puts d at head and returns where the next record goes. Without room
// for d that is head.
func (r *ring) write(head uint64, d *Datagram) (next uint64, ok bool) {
	tail := r.tail.Load()
	size := recordSize(len(d.Payload))
	left := ringSize - head%ringSize // before the end
	skip := uint64(0)
	if left < size || (head == tail && head%ringSize >= rewindAt) {
		skip = left // and begin anew
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

// take appends to into the datagrams that wait, most at most. If there are more,
// or as soon as there are, ready has a token; open tells whether that can be.
func (r *ring) take(into []Datagram, most int) (list []Datagram, open bool) {
	closed := r.closed.Load() // before head, which does not move any more then
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
	// Between the look at head and going to sleep more may have come, and have
	// been flushed in vain.
	if r.head.Load() != head && r.sleeping.CompareAndSwap(true, false) {
		r.wake()
	}
	return into, !closed
}

// release gives back the room of what was taken.
func (r *ring) release() { r.tail.Store(r.taken) }
