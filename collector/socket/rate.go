package socket

import (
	"sync/atomic"
	"time"
)

// rateWindow is the time over which a rate averages: long enough not to jump between
// two looks, and short enough to tell a flood.
const rateWindow = 60 // seconds

// rate counts datagrams by the second in which they came. One goroutine adds; it has
// no lock that could stop it.
type rate struct {
	base    time.Time    // when it was made; its clock is monotonic
	began   atomic.Int64 // when the first datagram came, ns after base; 0: there is none
	seconds [rateWindow]struct {
		which atomic.Int64 // second; the one that begins with the first datagram is 1
		count atomic.Int64
	}
}

func newRate() *rate { return &rate{base: time.Now()} }

func (r *rate) second(now time.Time) int64 {
	return max(int64(now.Sub(r.base))-r.began.Load(), 0)/int64(time.Second) + 1
}

func (r *rate) add(n int64, now time.Time) {
	if r.began.Load() == 0 {
		r.began.Store(max(int64(now.Sub(r.base)), 1))
	}
	second := r.second(now)
	s := &r.seconds[second%rateWindow]
	if s.which.Load() != second {
		s.count.Store(0)
		s.which.Store(second)
	}
	s.count.Add(n)
}

// perSecond is the average over the last minute, or since the first datagram if that
// is less than a minute ago.
func (r *rate) perSecond(now time.Time) float64 {
	if r.began.Load() == 0 {
		return 0
	}
	var sum int64
	second := r.second(now)
	for i := range r.seconds {
		if s := &r.seconds[i]; s.which.Load() > second-rateWindow {
			sum += s.count.Load()
		}
	}
	return float64(sum) / float64(min(second, rateWindow))
}
