package collector

import (
	"sync"
	"time"

	"clntrace/collector/socket"
	"clntrace/collector/spool"
	"clntrace/collector/stats"
)

// warningLife is how long what happened is worth a warning.
const warningLife = time.Hour

// counter is one that only grows, and whose growth is worth a warning.
type counter int

const (
	kernelFull    counter = iota // the kernel's queue
	senderFull                   // a sender's buffer
	missedParents                // parents that have not come
	cutSpans
	refusedUsers
	queueDropped  // spans
	ringDropped   // datagrams
	spoolDropped  // spans
	damagedFiles  // of the spool
	malformed     // datagrams
	defects       // our own
	longWaits     // requests that waited long for lightningd
	slowWrites    // found the answers of writing methods slow
	counterNumber // how many there are
)

// counters are the values of all counters.
type counters [counterNumber]uint64

// growth knows when each counter last grew. It is safe for concurrent use.
type growth struct {
	mu   sync.Mutex
	seen counters
	at   [counterNumber]time.Time // zero: never
}

// observe takes the values of the time now, and returns when each last grew.
func (g *growth) observe(values counters, now time.Time) [counterNumber]time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, v := range values {
		if v > g.seen[i] {
			g.seen[i], g.at[i] = v, now
		}
	}
	return g.at
}

// countersOf gathers the counters. What the ledger holds of dropped spans includes
// dropped datagrams.
func (c *Collector) countersOf(link *socket.Status, s spool.Status) counters {
	ledger := c.ledger.Counts()
	counts := stats.SpansOf(ledger)
	waited, slow := c.waits.counts()
	return counters{
		kernelFull: link.QueueFull, senderFull: link.SenderFull,
		missedParents: counts.MissingParents, cutSpans: counts.Truncated,
		refusedUsers: link.Refused, queueDropped: counts.DroppedQueueFull, ringDropped: link.Dropped,
		spoolDropped: counts.DroppedSpoolFull, damagedFiles: uint64(max(s.Damaged, 0)),
		malformed: uint64(max(ledger.Malformed, 0)), defects: c.seen.defects.Load(),
		longWaits: waited, slowWrites: slow,
	}
}

// watchInterval is how often growth is noticed while nobody asks: the times that
// warnings give are seconds.
const watchInterval = time.Second

// watch notices growth.
func (c *Collector) watch(now time.Time) {
	link := c.socketStatus()
	c.grown.observe(c.countersOf(&link, c.pipeline.Spool()), now)
}
