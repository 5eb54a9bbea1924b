package socket

// of is what a datagram with a payload of n bytes takes of its sender's buffer,
// in bytes.
func (c *charges) of(n int) int {
	return c.steps[min((n+chargeStep-1)/chargeStep, len(c.steps)-1)]
}

// worthAdding is how many datagrams a sender's buffer holds at least, less some:
// of the size at which lightningd cuts them it holds 49.
const worthAdding = 40

// account is what the senders of one drain have waiting in their buffers. It
// has room for as many of them as can fill theirs at once.
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
