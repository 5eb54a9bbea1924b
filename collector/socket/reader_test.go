package socket

import (
	"errors"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A flood is when many come and some are refused; neither alone is one.
func TestFloodIsNoticed(t *testing.T) {
	const limit = 10
	type drains struct {
		count int
		each  int           // datagrams
		gap   time.Duration // between them
	}
	for _, tc := range []struct {
		what string
		is   []drains
		want bool
	}{
		{"a node's highest peak, refused in part", []drains{{1000, limit + 1, 600 * time.Microsecond}}, false},
		{"many, none refused", []drains{{10_000, 5, 20 * time.Microsecond}}, false},
		{"many, and one drain found the queue full", []drains{{1000, 5, 20 * time.Microsecond}, {1, limit + 1, 0}, {1000, 5, 20 * time.Microsecond}}, true},
		{"not for long yet", []drains{{100, limit + 1, 50 * time.Microsecond}}, false},
		{"for long enough", []drains{{300, limit + 1, 50 * time.Microsecond}}, true},
		{"the thread lost the processor", []drains{{300, limit + 1, 50 * time.Microsecond}, {3, limit + 1, 20 * time.Millisecond}}, true},
		{"it became slower", []drains{{300, limit + 1, 50 * time.Microsecond}, {3, limit + 1, floodMemory}}, false},
		{"none are refused any more", []drains{{300, limit + 1, 50 * time.Microsecond}, {10_000, 5, 20 * time.Microsecond}}, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			now := time.Now()
			r := reader{limit: limit, pressure: new(pressure), window: now, last: now}
			for _, d := range tc.is {
				for range d.count {
					r.last = r.last.Add(d.gap)
					r.weigh(0, d.each)
				}
			}
			if got := r.pressure.flooded.Load(); got != tc.want {
				t.Errorf("a flood: %v, want %v", got, tc.want)
			}
		})
	}
}

func TestBacklogIsNoticed(t *testing.T) {
	for _, tc := range []struct {
		what   string
		limit  int
		counts []int
		want   bool
	}{
		{"a short queue that is full", 10, []int{11}, true},
		{"a short queue that is not", 10, []int{10}, false},
		{"a long queue with a backlog", 512, []int{batchLen, batchLen, 1}, true},
		{"a long queue with less", 512, []int{batchLen, batchLen - 1}, false},
		{"what may have come while it was read", 512, []int{batchLen, batchLen - 1, batchLen}, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			if batchLen != 64 {
				t.Skip("skipped: the numbers are those of batches of 64")
			}
			r := scripted(&script{counts: tc.counts}, tc.limit, newRing())
			r.drain(time.Now().Add(time.Minute))
			if got := !r.late.IsZero(); got != tc.want {
				t.Errorf("a backlog: %v, want %v", got, tc.want)
			}
		})
	}
}

// waiting is a reader whose socket is the end of a pipe, just after a datagram.
func waiting(t *testing.T) (r *reader, send, stop func()) {
	t.Helper()
	var ends [2]*os.File
	r = &reader{queue: newRing(), pressure: new(pressure), last: time.Now()}
	for i := range ends {
		read, write, err := os.Pipe()
		must(t, err)
		t.Cleanup(func() { _ = read.Close(); _ = write.Close() })
		ends[i] = write
		r.polled[i] = unix.PollFd{Fd: int32(read.Fd()), Events: unix.POLLIN}
	}
	return r, func() { _, _ = ends[0].Write([]byte("x")) }, func() { _ = ends[1].Close() }
}

// When nothing more comes nobody else tells the decoder of the last datagram,
// and that it need not hold back any more.
func TestQuietEndsAFlood(t *testing.T) {
	r, _, stop := waiting(t)
	r.queue.senders.isNew(7)
	r.queue.put(1, func(int) Datagram { return Datagram{PID: 7} }, r.last)
	r.pressure.flooded.Store(true)
	closing := make(chan bool)
	go func() { closing <- r.await() }()
	select {
	case <-r.queue.ready:
	case <-time.After(patience):
		t.Error("the decoder was not told of the last datagram")
	}
	if r.pressure.flooded.Load() {
		t.Error("there is still a flood")
	}
	stop()
	if !<-closing {
		t.Error("the end was not seen")
	}
}

func TestDatagramsGatherWhileTheyComeOften(t *testing.T) {
	for _, tc := range []struct {
		what  string
		limit int
		some  bool
		slept time.Duration
		flood bool
		want  bool
	}{
		{"some came, and soon", longQueue, true, oftenTime - 1, false, true},
		{"a queue that may be full too soon", longQueue - 1, true, oftenTime - 1, false, false},
		{"none, or many", longQueue, false, oftenTime - 1, false, false},
		{"seldom", longQueue, true, oftenTime, false, false},
		{"too many", longQueue, true, oftenTime - 1, true, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			r, send, stop := waiting(t)
			r.limit, r.some, r.slept = tc.limit, tc.some, tc.slept
			r.pressure.flooded.Store(tc.flood)
			send()
			if r.await() {
				t.Error("an end that did not come")
			}
			// Whoever lets them gather does not look at the socket.
			if got := r.polled[0].Revents == 0; got != tc.want {
				t.Errorf("they gather: %v, want %v", got, tc.want)
			}
			stop()
			if !r.await() {
				t.Error("the end was not seen")
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

// scripted reads from s instead of a socket.
func scripted(s *script, limit int, queue *ring) *reader {
	return &reader{batcher: s, limit: limit, charges: new(charges), fewest: math.MaxInt, queue: queue, pressure: new(pressure)}
}

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
			r := scripted(s, tc.limit, q)
			r.drain(time.Now().Add(time.Minute))
			if full := r.pressure.full.Load() == 1; full != tc.full {
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
	scripted(endless, 0, q).drain(time.Now().Add(-time.Second))
	if got := len(takeFrom(q, 1<<20)); got != batchLen || endless.calls != 1 {
		t.Errorf("%d datagrams in %d calls after the deadline", got, endless.calls)
	}
}
