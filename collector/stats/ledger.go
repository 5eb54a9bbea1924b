package stats

import (
	"sync"
	"time"
)

// Counts are numbers of datagrams and spans, by where they are. An entry for the
// Ledger is a change: a span that goes from Pending to Exported is
// Counts{Pending: -1, Exported: 1}.
type Counts struct {
	Received, Bytes, Refused, Malformed, Accepted int64

	Synthesized                         int64
	Exported, Pending, Spooled          int64
	SampledOut, Filtered                int64
	DroppedQueueFull, DroppedSpoolFull  int64
	RejectedByBackend                   int64
	Truncated, Repaired, MissingParents int64 // not part of the balance
}

// Add returns the sum of c and d.
func (c Counts) Add(d Counts) Counts {
	return Counts{
		Received:          c.Received + d.Received,
		Bytes:             c.Bytes + d.Bytes,
		Refused:           c.Refused + d.Refused,
		Malformed:         c.Malformed + d.Malformed,
		Accepted:          c.Accepted + d.Accepted,
		Synthesized:       c.Synthesized + d.Synthesized,
		Exported:          c.Exported + d.Exported,
		Pending:           c.Pending + d.Pending,
		Spooled:           c.Spooled + d.Spooled,
		SampledOut:        c.SampledOut + d.SampledOut,
		Filtered:          c.Filtered + d.Filtered,
		DroppedQueueFull:  c.DroppedQueueFull + d.DroppedQueueFull,
		DroppedSpoolFull:  c.DroppedSpoolFull + d.DroppedSpoolFull,
		RejectedByBackend: c.RejectedByBackend + d.RejectedByBackend,
		Truncated:         c.Truncated + d.Truncated,
		Repaired:          c.Repaired + d.Repaired,
		MissingParents:    c.MissingParents + d.MissingParents,
	}
}

// Balanced reports whether every datagram and every span of c is in exactly one
// place.
func (c Counts) Balanced() bool {
	return c.Received == c.Refused+c.Malformed+c.Accepted &&
		c.Accepted+c.Synthesized == c.Exported+c.Pending+c.Spooled+c.SampledOut+c.Filtered+
			c.DroppedQueueFull+c.DroppedSpoolFull+c.RejectedByBackend
}

// rateWindow is the time over which Ledger.Rate averages.
const rateWindow = 60 // seconds

// Ledger adds up counts. Each entry must be balanced, and then so is their sum at
// every moment. The zero Ledger is ready to use, and safe for concurrent use.
type Ledger struct {
	mu        sync.Mutex
	counts    Counts
	perSecond [rateWindow]int64 // accepted spans in each of the last seconds, a ring
	second    int64             // of the last entry, since first
	first     time.Time
}

// Book adds an entry made at the time now.
func (l *Ledger) Book(entry Counts, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts = l.counts.Add(entry)
	if entry.Accepted != 0 {
		l.advance(now)
		l.perSecond[l.second%rateWindow] += entry.Accepted
	}
}

// Inherit counts spans that an earlier run has left in the spool. They are not part
// of the Rate.
func (l *Ledger) Inherit(spans int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts = l.counts.Add(Counts{Received: spans, Accepted: spans, Spooled: spans})
}

// advance moves the ring on to now. It counts seconds from the first entry, by the
// monotonic clock, so it does not matter if the system's clock is set.
func (l *Ledger) advance(now time.Time) {
	if l.first.IsZero() {
		l.first = now
	}
	second := int64(now.Sub(l.first) / time.Second)
	if second-l.second >= rateWindow {
		clear(l.perSecond[:])
		l.second = second
	}
	for ; l.second < second; l.second++ {
		l.perSecond[(l.second+1)%rateWindow] = 0
	}
}

// Counts returns the sum of all entries.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Rate returns accepted spans per second over the last minute, or since the first
// one if that is less than a minute ago.
func (l *Ledger) Rate(now time.Time) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first.IsZero() {
		return 0
	}
	l.advance(now)
	var sum int64
	for _, n := range l.perSecond {
		sum += n
	}
	return float64(sum) / float64(min(l.second+1, rateWindow))
}
