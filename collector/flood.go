package collector

import "time"

const (
	// floodShare bounds what decoding and exporting each take in a flood: one
	// part in so many of a processor. What is in the ring can wait, but what the
	// kernel refuses is lost unseen.
	floodShare = 20
	// floodWait bounds one wait, since an export may have lasted for seconds
	// without using the processor at all.
	floodWait = time.Second
	// floodNap is how often a waiting stage checks whether the flood is over.
	floodNap = time.Millisecond
)

// yield leaves the processor to the receiving thread while that cannot keep up.
func (c *Collector) yield(worked time.Duration) {
	if c.receiver != nil {
		yield(worked, c.receiver.Flooded)
	}
}

// yield waits while there is a flood, long enough for the time worked before to
// have been no more than the caller's share.
func yield(worked time.Duration, flooded func() bool) {
	wait := min(worked*(floodShare-1), floodWait)
	for start := time.Now(); flooded() && time.Since(start) < wait; {
		time.Sleep(floodNap)
	}
}
