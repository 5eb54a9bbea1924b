package socket

import "math"

// of is what a datagram with a payload of n bytes takes of its sender's buffer,
// in bytes.
func (c *charges) of(n int) int {
	return c.steps[min((n+chargeStep-1)/chargeStep, len(c.steps)-1)]
}

// fewest is how many datagrams fill a sender's buffer at least: of the size at
// which lightningd cuts them.
func (c *charges) fewest() int {
	const largest = 2047
	if c.buffer == 0 {
		return math.MaxInt
	}
	return c.buffer / c.of(largest)
}

// account is what the senders of one drain have waiting in their buffers: the
// first ones of it, and one that fills its own is not likely to come late.
type account struct {
	senders [4]struct {
		pid  int32
		held int // bytes
	}
	full bool // one of them has filled its own
}

// add adds a datagram, and tells whether the first of the senders has filled
// its buffer with it.
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
		// The kernel lets one in while there is any room.
		a.full = s.held >= c.buffer
		return a.full
	}
	return false
}
