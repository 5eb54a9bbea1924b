package socket

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

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

func (s *script) most() int { return batchLen }

func (s *script) datagram(int) Datagram { return Datagram{Payload: []byte("x")} }

// scripted reads from s instead of a socket.
func scripted(s *script, limit int, queue *ring) *reader {
	l := &load{pressure: new(pressure), limit: limit, charges: new(charges), fewest: math.MaxInt}
	return &reader{batcher: s, queue: queue, load: l, wait: new(waiter)}
}

func times(n, count int) []int { return slices.Repeat([]int{count}, n) }

func TestDrainEndsAtTheDeadline(t *testing.T) {
	endless := &script{counts: times(1000, batchLen)}
	q := newRing()
	scripted(endless, 0, q).drain(time.Now().Add(-time.Second))
	if got := len(takeFrom(q, 1<<20)); got != batchLen || endless.calls != 1 {
		t.Errorf("%d datagrams in %d calls after the deadline", got, endless.calls)
	}
}
