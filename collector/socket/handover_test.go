package socket

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// putAll puts texts, n at once.
func putAll(h *handover, n int, texts ...string) {
	for part := range slices.Chunk(texts, n) {
		h.put(len(part), func(i int) Datagram { return Datagram{Payload: []byte(part[i]), PID: int32(len(part[i]))} })
	}
}

func texts(chunks []*Chunk) (list []string) {
	for _, c := range chunks {
		list = append(list, payloads(c.Datagrams)...)
	}
	return list
}

func TestHandoverKeepsOrderAndContents(t *testing.T) {
	h := newHandover()
	var want []string
	for i := range 3000 { // some chunks
		want = append(want, strconv.Itoa(i)+strings.Repeat("x", i%maxDatagram))
	}
	putAll(h, 64, want...)
	chunks := h.take(nil)
	if got := texts(chunks); !slices.Equal(got, want) {
		t.Error("what was taken is not what was put")
	}
	for _, c := range chunks {
		for _, d := range c.Datagrams {
			if int(d.PID) != len(d.Payload) {
				t.Fatalf("a datagram of %d bytes has the sender of one of %d", len(d.Payload), d.PID)
			}
			if cap(d.Payload) != len(d.Payload) {
				t.Fatal("appending to a payload would write over the next one")
			}
		}
	}
	if got := h.take(nil); len(got) != 0 {
		t.Errorf("%d chunks were taken again", len(got))
	}
	first := &Chunk{}
	putAll(h, 1, "x")
	if got := h.take([]*Chunk{first}); len(got) != 2 || got[0] != first {
		t.Errorf("take did not append: %v", got)
	}
}

func TestReadyHasOneTokenWhileSomethingWaits(t *testing.T) {
	h := newHandover()
	ready := func() bool {
		select {
		case <-h.ready:
			return true
		default:
			return false
		}
	}
	if ready() {
		t.Error("ready before the first datagram")
	}
	putAll(h, 1, "a", "b", "c")
	if !ready() || ready() {
		t.Error("want one token after three datagrams")
	}
	putAll(h, 1, "d") // taken or not, a new one is announced
	if !ready() {
		t.Error("not ready after another")
	}
}

func TestHandoverWithoutRoomDropsAndGoesOn(t *testing.T) {
	const size = 1000
	const perChunk = chunkSize / size
	h := newHandover()
	payload := strings.Repeat("x", size)
	fill := make([]string, maxChunks*perChunk)
	for i := range fill {
		fill[i] = payload
	}
	putAll(h, 64, fill...)
	if n := h.dropped.Load(); n != 0 {
		t.Fatalf("%d dropped while there was room", n)
	}
	putAll(h, 3, payload, payload, payload, payload)
	if n, bytes := h.dropped.Load(), h.lost.Load(); n != 4 || bytes != 4*size {
		t.Errorf("%d datagrams with %d bytes dropped, want 4 with %d", n, bytes, 4*size)
	}
	// A small one still fits behind the last.
	putAll(h, 1, "small", payload)
	if n := h.dropped.Load(); n != 5 {
		t.Errorf("%d dropped, want 5", n)
	}

	chunks := h.take(nil)
	got := texts(chunks)
	if len(chunks) != maxChunks || len(got) != len(fill)+1 || got[len(fill)] != "small" {
		t.Errorf("%d chunks with %d datagrams", len(chunks), len(got))
	}
	putAll(h, 1, payload) // all chunks are with the decoder
	if n := h.dropped.Load(); n != 6 {
		t.Errorf("%d dropped, want 6", n)
	}

	h.release(chunks[:1])
	putAll(h, 1, "after", "that")
	again := h.take(nil)
	if got := texts(again); !slices.Equal(got, []string{"after", "that"}) {
		t.Errorf("took %q", got)
	}
	if len(again) != 1 || again[0] != chunks[0] {
		t.Error("the chunk that was given back was not used again")
	}
	if h.chunks != maxChunks {
		t.Errorf("%d chunks exist", h.chunks)
	}
}

func TestChunkIsFilledToTheLastByteAndNeverGrows(t *testing.T) {
	h := newHandover()
	putAll(h, 1, strings.Repeat("x", chunkSize-1), "y", "z")
	chunks := h.take(nil)
	if len(chunks) != 2 || len(chunks[0].Datagrams) != 2 || len(chunks[1].Datagrams) != 1 {
		t.Errorf("%d chunks", len(chunks))
	}
	for _, c := range chunks {
		if cap(c.bytes) != chunkSize {
			t.Errorf("a chunk has %d bytes", cap(c.bytes))
		}
	}
}

func TestChunkGivenBackLastIsUsedFirst(t *testing.T) {
	h := newHandover()
	big := strings.Repeat("x", chunkSize)
	putAll(h, 1, big, big, big)
	chunks := h.take(nil)
	h.release(chunks)
	putAll(h, 1, "a")
	if got := h.take(nil); len(got) != 1 || got[0] != chunks[2] {
		t.Error("another one was used")
	}
	if h.chunks != 3 {
		t.Errorf("%d chunks exist, want 3", h.chunks)
	}
}

// Datagrams without bytes fill no buffer, yet they take memory.
func TestSmallDatagramsAreBounded(t *testing.T) {
	for _, payload := range []string{"", "x"} {
		h := newHandover()
		const sent = 400_000
		for range sent / 100 {
			h.put(100, func(int) Datagram { return Datagram{Payload: []byte(payload)} })
		}
		var kept, room int
		for _, c := range h.take(nil) {
			kept += len(c.Datagrams)
			room += cap(c.Datagrams)
		}
		if kept+int(h.dropped.Load()) != sent {
			t.Errorf("%d kept and %d dropped of %d", kept, h.dropped.Load(), sent)
		}
		if room > 150_000 { // 6 MB
			t.Errorf("%d datagrams of %d bytes are kept, with room for %d", kept, len(payload), room)
		}
	}
}

func TestHandoverDoesNotAllocateInTheLongRun(t *testing.T) {
	h := newHandover()
	payload := make([]byte, 257)
	datagram := func(int) Datagram { return Datagram{Payload: payload} }
	var chunks []*Chunk
	round := func() {
		for range 40 {
			h.put(64, datagram)
		}
		chunks = h.take(chunks[:0])
		h.release(chunks)
	}
	round()
	if n := testing.AllocsPerRun(20, round); n != 0 {
		t.Errorf("%v allocations for %d datagrams", n, 40*64)
	}
}

// script is a batcher that has so many datagrams at each call.
type script struct {
	counts []int // -1: an error
	calls  int
}

var errScript = errors.New("no memory")

func (s *script) receive() (int, error) {
	s.calls++
	if s.calls > len(s.counts) {
		return 0, nil
	}
	if n := s.counts[s.calls-1]; n >= 0 {
		return n, nil
	}
	return 0, errScript
}

func (s *script) datagram(int) Datagram { return Datagram{Payload: []byte("x")} }

func times(n, count int) []int { return slices.Repeat([]int{count}, n) }

// The kernel lets in one more than the limit, so that many tell that it was
// full; what comes after a call that could have emptied it may be new.
func TestFullQueueIsNoticed(t *testing.T) {
	const b = batchLen
	if b != 64 {
		t.Skip("skipped: the numbers are those of batches of 64")
	}
	for _, tc := range []struct {
		name   string
		limit  int
		counts []int
		full   bool
		calls  int
	}{
		{"10, empty", 10, nil, false, 1},
		{"10, one", 10, []int{1}, false, 1},
		{"10, at the limit", 10, []int{10}, false, 1},
		{"10, full", 10, []int{11}, true, 1},
		{"10, full, and more while it was read", 10, []int{40}, true, 1},
		{"10, full, and a whole batch while it was read", 10, []int{b, 3}, true, 2},
		{"64, almost full", 64, []int{63}, false, 1},
		{"64, at the limit", 64, []int{b, 0}, false, 2},
		{"64, full", 64, []int{b, 1}, true, 2},
		{"63, full", 63, []int{b, 0}, true, 2},
		{"100, at the limit", 100, []int{b, 36}, false, 2},
		{"100, full", 100, []int{b, 37}, true, 2},
		{"512, a burst", 512, []int{b, b, 5}, false, 3},
		{"512, almost full", 512, append(times(7, b), 63), false, 8},
		{"512, at the limit", 512, append(times(8, b), 0), false, 9},
		{"512, full", 512, append(times(8, b), 1), true, 9},
		{"512, full, and more while it was read", 512, append(times(20, b), 7), true, 21},
		{"unknown", 0, append(times(20, b), 7), false, 21},
		{"error at once", 10, []int{-1, 11}, false, 1},
		{"error later", 10, []int{b, -1, 11}, true, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, s := newHandover(), &script{counts: tc.counts}
			if full := drain(s, tc.limit, h, time.Time{}); full != tc.full {
				t.Errorf("full is %v, want %v", full, tc.full)
			}
			if s.calls != tc.calls {
				t.Errorf("%d calls, want %d", s.calls, tc.calls)
			}
			want := 0
			for _, n := range tc.counts[:min(tc.calls, len(tc.counts))] {
				want += max(n, 0)
			}
			if got := len(texts(h.take(nil))); got != want {
				t.Errorf("%d datagrams, want %d", got, want)
			}
		})
	}
}

func TestDrainEndsAtTheDeadline(t *testing.T) {
	endless := &script{counts: times(1000, batchLen)}
	h := newHandover()
	drain(endless, 0, h, time.Now().Add(-time.Second))
	if got := len(texts(h.take(nil))); got != batchLen || endless.calls != 1 {
		t.Errorf("%d datagrams in %d calls after the deadline", got, endless.calls)
	}
}

func BenchmarkHandover(b *testing.B) {
	h := newHandover()
	payload := make([]byte, 257)
	datagram := func(int) Datagram { return Datagram{Payload: payload} }
	var chunks []*Chunk
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		h.put(10, datagram)
		chunks = h.take(chunks[:0])
		h.release(chunks)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(10*b.N), "ns/datagram")
}
