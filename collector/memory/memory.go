// Package memory bounds the spans that are in memory, by their number and by their
// size. The number alone does not: a hostile sender can make each span ten times as
// large as usual.
//
// Whoever brings a span into the process takes room for it, and whoever has done
// with it releases that. A span for which there is no room is dropped, and counted,
// where it came from. There is room for as many spans as the limit says, and for
// maxBytes.
package memory

import (
	"sync/atomic"
	"unsafe"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/zipkin"
)

// maxBytes leaves the rest of the 128 MiB that clntrace may take to the ring, to
// batches under way and to the garbage collector.
const maxBytes = 32 << 20

// Room is what there is for spans. It is safe for concurrent use; only one goroutine
// may Take.
type Room struct {
	overhead int64        // bytes for each span, besides the span itself
	limit    atomic.Int64 // spans
	spans    atomic.Int64
	bytes    atomic.Int64
	shared   sharedTexts
}

// NewRoom returns a Room for that many spans. overhead is how many bytes the rooms
// that spans pass through keep for each of them, besides the span itself.
func NewRoom(limit, overhead int) *Room {
	r := &Room{overhead: int64(rounded(overhead))}
	r.SetLimit(limit)
	return r
}

// SetLimit sets how many spans there is room for.
func (r *Room) SetLimit(spans int) { r.limit.Store(int64(spans)) }

// Take takes room for s, and reports whether there was any.
func (r *Room) Take(s *correlate.Span) bool {
	if r.spans.Load() >= r.limit.Load() {
		return false
	}
	n := r.size(s) + int64(r.shared.hold(s))
	if r.bytes.Load()+n > maxBytes {
		r.shared.release(s)
		return false
	}
	r.spans.Add(1)
	r.bytes.Add(n)
	return true
}

// Release gives back what Take took for s, and forgets its tags: they share memory with
// those of other spans, which would keep their texts.
func (r *Room) Release(s *correlate.Span) {
	r.spans.Add(-1)
	r.bytes.Add(-r.size(s) - int64(r.shared.release(s)))
	clear(s.Tags)
}

// Spans is how many spans are in memory.
func (r *Room) Spans() int64 { return r.spans.Load() }

// Bytes is how many bytes they are thought to take.
func (r *Room) Bytes() int64 { return r.bytes.Load() }

// HalfFull reports whether more than half of the room is taken. Then there is still
// time to put batches on disk before spans have to be dropped.
func (r *Room) HalfFull() bool {
	return r.spans.Load() > r.limit.Load()/2 || r.bytes.Load() > maxBytes/2
}

const (
	spanSize = int(unsafe.Sizeof(correlate.Span{}))
	tagSize  = int(unsafe.Sizeof(zipkin.Tag{}))
)

// rounded is how many bytes Go takes for something of that size: it rounds up to
// multiples of 16.
func rounded(size int) int {
	const step = 16
	return (size + step - 1) / step * step
}

// size estimates how many bytes s alone takes: everything but the text of
// statements, which many spans share. Most of it is up to the sender: a datagram has
// room for 2 kB of text, or for 300 tags without any.
func (r *Room) size(s *correlate.Span) int64 {
	n := rounded(spanSize) + len(s.Name) + len(s.Detail) + tagSize*len(s.Tags)
	for i := range s.Tags {
		n += len(s.Tags[i].Key)
		if s.Tags[i].Key != cln.TagQuery {
			n += len(s.Tags[i].Value)
		}
	}
	return r.overhead + int64(n)
}
