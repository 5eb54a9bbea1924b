package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// takeFrom takes up to most datagrams.
func takeFrom(r *ring, most int) []Datagram {
	list, _ := r.take(nil, most)
	return list
}

// putAll puts one datagram with each text, all in one go.
func putAll(r *ring, list ...string) {
	r.put(len(list), func(i int) Datagram {
		return Datagram{Payload: []byte(list[i]), PID: int32(len(list[i])), UID: uint32(i), Known: i%2 == 0, Oversize: i%3 == 0}
	})
}

func TestRingKeepsOrderAndContents(t *testing.T) {
	r := newRing()
	var want []string
	for i := range 100 {
		want = append(want, strings.Repeat(fmt.Sprint(i, " "), i))
	}
	putAll(r, want[:40]...)
	putAll(r, want[40:]...)
	first := takeFrom(r, 70)
	got, _ := r.take(first, 70)
	if len(first) != 70 || !slices.Equal(payloads(got), want) {
		t.Fatalf("%d at first, then in all %d of %d datagrams", len(first), len(got), len(want))
	}
	for i, d := range got[:40] {
		if int(d.PID) != len(want[i]) || d.UID != uint32(i) || d.Known != (i%2 == 0) || d.Oversize != (i%3 == 0) {
			t.Errorf("datagram %d is from pid %d, uid %d, known %v, oversize %v", i, d.PID, d.UID, d.Known, d.Oversize)
		}
		if cap(d.Payload) != len(d.Payload) {
			t.Errorf("to append to datagram %d would write into the ring", i)
		}
	}
	if again := takeFrom(r, 70); len(again) != 0 {
		t.Errorf("%d datagrams were taken twice", len(again))
	}
}

func TestReadyHasATokenWhenThereIsSomethingToTake(t *testing.T) {
	r := newRing()
	token := func() bool {
		select {
		case <-r.ready:
			return true
		default:
			return false
		}
	}
	if token() {
		t.Error("a token without a datagram")
	}
	putAll(r, "a")
	if token() {
		t.Error("a token before more was waited for")
	}
	putAll(r, "b")
	r.flush()
	r.flush()
	if !token() || token() {
		t.Error("what was flushed did not give one token")
	}
	if n := len(takeFrom(r, 1)); n != 1 || !token() {
		t.Errorf("%d taken, and no token for the rest", n)
	}
	if n := len(takeFrom(r, 1)); n != 1 || token() {
		t.Errorf("%d taken, and a token although nothing is left", n)
	}
	r.release()
	putAll(r, "c")
	r.flush()
	takeFrom(r, 9) // without taking the token
	putAll(r, "d")
	r.flush() // must not wait for room for a second one
	if !token() || token() {
		t.Error("not one token")
	}
	takeFrom(r, 9)
	r.release()
	putAll(r, strings.Repeat("x", wakeAt))
	if !token() {
		t.Error("no token although much waits")
	}
	putAll(r, "e")
	r.close()
	if !token() {
		t.Error("no token at the end")
	}
	if list, open := r.take(nil, 9); len(list) != 2 || open {
		t.Errorf("at the end %d taken, and there can be more: %v", len(list), open)
	}
}

func TestRingWithoutRoomDropsAndGoesOn(t *testing.T) {
	r := newRing()
	large := strings.Repeat("x", maxDatagram)
	room := int(ringSize / recordSize(maxDatagram))
	for range room + 10 {
		putAll(r, large)
	}
	if got := r.dropped.Load(); got != 10 || r.lost.Load() != 10*maxDatagram {
		t.Fatalf("%d dropped with %d bytes, want 10", got, r.lost.Load())
	}
	got := takeFrom(r, 1<<20)
	if len(got) != room {
		t.Fatalf("%d taken of the %d that fit", len(got), room)
	}
	putAll(r, large)
	if r.dropped.Load() != 11 {
		t.Error("the room of what was taken was used before it was given back")
	}
	r.release()
	putAll(r, "small", large)
	if got := payloads(takeFrom(r, 9)); !slices.Equal(got, []string{"small", large}) || r.dropped.Load() != 11 {
		t.Errorf("after release got %d datagrams, %d dropped", len(got), r.dropped.Load())
	}
}

func TestEmptyDatagramsAreBounded(t *testing.T) {
	r := newRing()
	const more = 1000
	for range ringSize/headerSize + more {
		putAll(r, "")
	}
	if got := r.dropped.Load(); got != more {
		t.Errorf("%d dropped, want %d", got, more)
	}
}

func TestRingStaysSmallWhileTheDecoderKeepsUp(t *testing.T) {
	r := newRing()
	payload := strings.Repeat("x", 1000)
	for range 10 * ringSize / 1000 {
		putAll(r, payload)
		if d := takeFrom(r, 9); len(d) != 1 || len(d[0].Payload) != 1000 {
			t.Fatalf("got %d datagrams", len(d))
		}
		r.release()
	}
	for at := rewindAt + 2*headerSize + 1024; at < ringSize; at += headerSize {
		if binary.NativeEndian.Uint64(r.bytes[at:]) != 0 {
			t.Fatalf("byte %d has been used, although one datagram waited at most", at)
		}
	}
}

// TestRingUnderLoad lets both sides run against each other, round the end of
// the ring many times, and holds every datagram against what was put.
func TestRingUnderLoad(t *testing.T) {
	const total = 300_000
	r := newRing()
	payload := func(i int) []byte {
		b := make([]byte, 9+i%3000*7919%3000)
		binary.LittleEndian.PutUint64(b, uint64(i))
		b[len(b)-1] ^= byte(i)
		return b
	}
	go func() {
		for i := 0; i < total; {
			n := min(1+i%batchLen, total-i)
			r.put(n, func(k int) Datagram { return Datagram{Payload: payload(i + k)} })
			r.flush()
			i += n
		}
		r.close()
	}()
	next, got := 0, 0
	var list []Datagram
	for open := true; open; {
		<-r.ready
		list, open = r.take(list[:0], 100)
		for _, d := range list {
			i := int(binary.LittleEndian.Uint64(d.Payload))
			if i < next || !slices.Equal(d.Payload, payload(i)) {
				t.Fatalf("after %d came %d, or its contents are not its own", next, i)
			}
			next = i + 1
			got++
		}
		r.release()
	}
	if dropped := int(r.dropped.Load()); got+dropped != total {
		t.Errorf("%d taken and %d dropped of %d", got, dropped, total)
	}
}

func TestRingDoesNotAllocateInTheLongRun(t *testing.T) {
	r := newRing()
	payload := make([]byte, 257)
	datagram := func(int) Datagram { return Datagram{Payload: payload} }
	list := make([]Datagram, 0, 100)
	if n := testing.AllocsPerRun(1000, func() {
		r.put(64, datagram)
		list, _ = r.take(list[:0], 100)
		r.release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBurstKeepsTheReaderAwake(t *testing.T) {
	began := time.Now()
	for _, tc := range []struct {
		what  string
		n     int
		after time.Duration // since the beginning, of the first n
		idle  time.Duration // since then
		want  bool
	}{
		{"a burst", burstLength, 0, 0, true},
		{"a burst that has just paused", burstLength, 0, lingerTime - 1, true},
		{"a burst that is over", burstLength, 0, lingerTime, false},
		{"too few", burstLength - 1, 0, 0, false},
		{"almost too slow", burstLength, burstLength*burstGap - 1, 0, true},
		{"too slow", burstLength, burstLength * burstGap, 0, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			u := burst{began: began, last: began}
			now := began.Add(tc.after)
			got := u.goesOn(tc.n, now)
			if tc.idle > 0 {
				got = u.goesOn(0, now.Add(tc.idle))
			}
			if got != tc.want {
				t.Errorf("stays awake: %v, want %v", got, tc.want)
			}
		})
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
			q, s := newRing(), &script{counts: tc.counts}
			if _, full := drain(s, tc.limit, q, time.Now().Add(time.Minute)); full != tc.full {
				t.Errorf("full is %v, want %v", full, tc.full)
			}
			if s.calls != tc.calls {
				t.Errorf("%d calls, want %d", s.calls, tc.calls)
			}
			want := 0
			for _, n := range tc.counts[:min(tc.calls, len(tc.counts))] {
				want += max(n, 0)
			}
			if got := len(takeFrom(q, 1<<20)); got != want {
				t.Errorf("%d datagrams, want %d", got, want)
			}
		})
	}
}

func TestDrainEndsAtTheDeadline(t *testing.T) {
	endless := &script{counts: times(1000, batchLen)}
	q := newRing()
	drain(endless, 0, q, time.Now().Add(-time.Second))
	if got := len(takeFrom(q, 1<<20)); got != batchLen || endless.calls != 1 {
		t.Errorf("%d datagrams in %d calls after the deadline", got, endless.calls)
	}
}

func BenchmarkRing(b *testing.B) {
	r := newRing()
	payload := make([]byte, 257)
	datagram := func(int) Datagram { return Datagram{Payload: payload} }
	var list []Datagram
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		r.put(10, datagram)
		list, _ = r.take(list[:0], 10)
		r.release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(10*b.N), "ns/datagram")
}
