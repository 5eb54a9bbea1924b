package socket

import (
	"sync"
	"sync/atomic"
)

const (
	// maxDatagram is what is read of one datagram, in bytes; lightningd sends
	// 2,048 at most, and more tells that it is not lightningd's.
	maxDatagram = 4096
	// chunkSize is the size of a hand-over buffer, in bytes: some 900 spans.
	chunkSize = 256 << 10
	// maxChunks bounds what waits to be decoded, at 16 MiB: 60,000 spans,
	// nearly 4 s of the highest peak that a real node has shown.
	maxChunks = 64
	// chunkLen is how many datagrams a buffer holds at most. Those of lightningd
	// have 191 bytes at least, so only others, of next to no bytes, reach it.
	chunkLen = 2048
)

// Datagram is one message and who sent it.
type Datagram struct {
	Payload []byte // valid until its Chunk is released
	// PID and UID are the sender's, if Known. PID is 0 for a process outside of
	// our pid namespace.
	PID   int32
	UID   uint32
	Known bool
	// Oversize tells that Payload is only the beginning.
	Oversize bool
}

// Chunk is a buffer full of datagrams, oldest first.
type Chunk struct {
	Datagrams []Datagram
	bytes     []byte
}

// add copies d into the chunk and tells whether it had room.
func (c *Chunk) add(d Datagram) bool {
	at := len(c.bytes)
	if at+len(d.Payload) > cap(c.bytes) || len(c.Datagrams) == chunkLen {
		return false
	}
	c.bytes = append(c.bytes, d.Payload...)
	d.Payload = c.bytes[at:len(c.bytes):len(c.bytes)]
	c.Datagrams = append(c.Datagrams, d)
	return true
}

// handover is the queue between the reading thread and the decoder, bounded in
// bytes and in datagrams. Both sides hold its lock only to copy or to swap.
type handover struct {
	ready   chan struct{} // one token: there is something to take
	dropped atomic.Uint64 // datagrams for which there was no room
	lost    atomic.Uint64 // their bytes

	mu     sync.Mutex
	queue  []*Chunk
	free   []*Chunk // the last one used is the first one taken again, while it is in the cache
	chunks int      // that exist
}

func newHandover() *handover { return &handover{ready: make(chan struct{}, 1)} }

// put appends datagrams, and counts those for which there is no room.
func (h *handover) put(n int, datagram func(i int) Datagram) {
	h.mu.Lock()
	for i := range n {
		d := datagram(i)
		if !h.append(d) {
			h.dropped.Add(1)
			h.lost.Add(uint64(len(d.Payload)))
		}
	}
	h.mu.Unlock()
	select {
	case h.ready <- struct{}{}:
	default: // the token is there already
	}
}

func (h *handover) append(d Datagram) bool {
	if n := len(h.queue); n > 0 && h.queue[n-1].add(d) {
		return true
	}
	c := h.newChunk()
	if c == nil {
		return false
	}
	h.queue = append(h.queue, c)
	return c.add(d)
}

func (h *handover) newChunk() *Chunk {
	if n := len(h.free); n > 0 {
		c := h.free[n-1]
		h.free = h.free[:n-1]
		return c
	}
	if h.chunks == maxChunks {
		return nil
	}
	h.chunks++
	return &Chunk{Datagrams: make([]Datagram, 0, chunkLen), bytes: make([]byte, 0, chunkSize)}
}

// take returns everything that waits, appended to into.
func (h *handover) take(into []*Chunk) []*Chunk {
	h.mu.Lock()
	defer h.mu.Unlock()
	into = append(into, h.queue...)
	h.queue = h.queue[:0]
	return into
}

// release gives chunks back to be filled again.
func (h *handover) release(chunks []*Chunk) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range chunks {
		c.Datagrams, c.bytes = c.Datagrams[:0], c.bytes[:0]
		h.free = append(h.free, c)
	}
}
