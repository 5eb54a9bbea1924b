package collector

import (
	"sync/atomic"
	"time"

	"clntrace/collector/cln"
)

// maxNotified bounds the notifications that wait for the decoder. A busy router has
// some hundred a second, and the decoder takes them at once; while it is held back in
// a flood of spans, this is half a minute's worth, of 2 MiB at most.
const maxNotified = 4096

// notified is a notification of lightningd.
type notified struct {
	event cln.Event
	at    time.Time // when it came from the pipe
}

// intake holds notifications until the decoder takes them.
type intake struct {
	waiting chan notified
	lost    atomic.Int64 // since the decoder last asked
}

func newIntake() intake { return intake{waiting: make(chan notified, maxNotified)} }

// Notify takes a notification of lightningd, which came at that time. Call it in the
// order of the pipe. It never waits: a notification for which there is no room is
// counted as dropped.
func (c *Collector) Notify(e cln.Event, at time.Time) {
	if c.receiver == nil {
		return // no span comes that it could be joined to, and nobody would take it
	}
	select {
	case c.intake.waiting <- notified{e, at}:
	default:
		c.intake.lost.Add(1)
	}
}

// NotifyMalformed counts a notification that could not be read as dropped.
func (c *Collector) NotifyMalformed() { c.intake.lost.Add(1) }
