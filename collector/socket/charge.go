package socket

import "math"

// charges says how much of its sender's buffer a queued datagram takes. With a long
// queue, a sender is refused because its buffer is full long before the queue is.
// The kernel charges more than the payload, and not the same in all versions, so
// we measure it.
type charges struct {
	buffer int // of a sender, bytes; 0: unknown
	steps  [maxDatagram/chargeStep + 1]int
}

// of returns how much of its sender's buffer a datagram with a payload of n bytes
// takes, in bytes.
func (c *charges) of(n int) int {
	return c.steps[min((n+chargeStep-1)/chargeStep, len(c.steps)-1)]
}

// fewest returns the smallest number of datagrams that fill a sender's buffer:
// those of the size at which lightningd cuts them.
func (c *charges) fewest() int {
	const largest = 2047
	if c.buffer == 0 {
		return math.MaxInt
	}
	return c.buffer / c.of(largest)
}

// account adds up what the senders of one drain have had waiting. It follows only
// the first four: one that fills its buffer has sent a hundred of the datagrams, and
// so is likely to be among them.
type account struct {
	senders [4]struct {
		pid  int32
		held int // bytes
	}
	full bool // one of them has filled its buffer
}

// add adds a datagram, and reports whether a sender, the first one of this drain,
// has filled its buffer with it.
func (a *account) add(d *Datagram, c *charges) (full bool) {
	if !d.Known || c.buffer == 0 || a.full {
		return false
	}
	for i := range a.senders {
		s := &a.senders[i]
		if s.held > 0 && s.pid != d.PID {
			continue
		}
		s.pid = d.PID
		s.held += c.of(len(d.Payload))
		// The kernel accepts a datagram while there is any room at all.
		a.full = s.held >= c.buffer
		return a.full
	}
	return false
}
