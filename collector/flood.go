package collector

import "time"

const (
	// floodShare is the part of a processor that decoding takes, and exporting
	// too, while datagrams come faster than they can be read: one in so many.
	// What is in the ring can wait; what the kernel refuses is lost unseen.
	floodShare = 20
	// floodWait bounds one wait, for an export may have lasted for seconds
	// without taking the processor at all.
	floodWait = time.Second
	// floodNap is how often a wait looks whether the flood is over.
	floodNap = time.Millisecond
)

// yield leaves the processor to the receiving thread while that cannot keep up.
func (c *Collector) yield(worked time.Duration) {
	if c.receiver != nil {
		yield(worked, c.receiver.Flooded)
	}
}

// yield waits while there is a flood, for so long that who has worked before
// has had its share.
func yield(worked time.Duration, flooded func() bool) {
	wait := min(worked*(floodShare-1), floodWait)
	for start := time.Now(); flooded() && time.Since(start) < wait; {
		time.Sleep(floodNap)
	}
}
