package socket

import (
	"encoding/binary"
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
	}, time.Now())
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

// Datagrams of which the decoder was not told yet are taken before sync returns;
// and a decoder that does nothing does not hold it up for ever.
func TestSync(t *testing.T) {
	r := newRing()
	putAll(r, "a") // a new sender, so the decoder is told
	<-r.ready
	takeFrom(r, 1)
	r.release()
	decoded := make(chan int)
	go func() {
		<-r.ready
		n := len(takeFrom(r, 10))
		r.release()
		decoded <- n
	}()
	putAll(r, "b", "c") // known senders
	if r.age(time.Now()) == 0 {
		t.Fatal("the decoder was told at once")
	}
	r.sync(time.Hour)
	if r.tail.Load() != r.head.Load() {
		t.Error("it returned too early")
	}
	if n := <-decoded; n != 2 {
		t.Errorf("%d datagrams were taken", n)
	}
	putAll(r, "d")
	r.sync(time.Millisecond)
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
	if !token() || token() {
		t.Error("a new sender did not give one token")
	}
	takeFrom(r, 9)
	putAll(r, "b")
	if token() {
		t.Error("a token before more was waited for")
	}
	putAll(r, "c")
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
	r.senders.isNew(wakeAt)
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
	if got := r.dropped.Load(); got != 10 || r.droppedBytes.Load() != 10*maxDatagram {
		t.Fatalf("%d dropped with %d bytes, want 10", got, r.droppedBytes.Load())
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
			r.put(n, func(k int) Datagram { return Datagram{Payload: payload(i + k)} }, time.Now())
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
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		r.put(64, datagram, now)
		list, _ = r.take(list[:0], 100)
		r.release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRingTellsHowLongTheDecoderWasLeftAsleep(t *testing.T) {
	r := newRing()
	now := time.Now()
	put := func(at time.Time) { r.put(1, func(int) Datagram { return Datagram{} }, at) }
	check := func(what string, want time.Duration) {
		t.Helper()
		if got := r.age(now); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("nothing put", 0)
	put(now.Add(-3 * time.Millisecond))
	put(now.Add(-time.Millisecond))
	check("two put", 3*time.Millisecond)
	r.flush()
	check("flushed", 0)
	put(now.Add(-2 * time.Millisecond))
	check("one more", 2*time.Millisecond)
	r.flush()
	put(now)
	check("one just now", 1)
}

// The reader may find more for as long as it likes, and never wait so long that
// it thinks of the decoder.
func TestNobodyWaitsLongForTheDecoder(t *testing.T) {
	r := newRing()
	r.senders.isNew(7)
	start := time.Now()
	put := func(after time.Duration) { r.put(1, func(int) Datagram { return Datagram{PID: 7} }, start.Add(after)) }
	for _, tc := range []struct {
		after time.Duration
		want  int // tokens
	}{{0, 0}, {handOverTime - 1, 0}, {handOverTime, 1}} {
		put(tc.after)
		if got := len(r.ready); got != tc.want {
			t.Errorf("%v after the first datagram there are %d tokens, want %d", tc.after, got, tc.want)
		}
	}
}

// A process that is gone when the decoder asks for its name stays without one.
func TestNewSendersAreTold(t *testing.T) {
	var s senders
	for _, tc := range []struct {
		pid  int32
		want bool
	}{{0, false}, {7, true}, {7, false}, {8, true}, {7, false}, {7 + int32(len(s)), true}, {7, true}, {8, false}} {
		if got := s.isNew(tc.pid); got != tc.want {
			t.Errorf("pid %d is new: %v, want %v", tc.pid, got, tc.want)
		}
	}
}

func BenchmarkRing(b *testing.B) {
	r := newRing()
	payload := make([]byte, 257)
	datagram := func(int) Datagram { return Datagram{Payload: payload} }
	var list []Datagram
	now := time.Now()
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		r.put(10, datagram, now)
		list, _ = r.take(list[:0], 10)
		r.release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(10*b.N), "ns/datagram")
}
