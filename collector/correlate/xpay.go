package correlate

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/process"
)

// Later versions of cln-xpay send a span for each payment, with children for the
// search for routes and for each part, in a trace of their own. Each child encloses
// the request that does its work and is sent right after it, which tells the request
// that the payment belongs to. The payment's own span comes last.

// payment is a trace of cln-xpay whose request is known, and whose own span has not
// come.
type payment struct {
	request *openRequest
	trace   trace.TraceID // of the request
	root    trace.SpanID  // of that trace
}

// lastRequest is the newest request of a plugin.
type lastRequest struct {
	method     string
	start, end int64 // µs
	payment    payment
}

// joinPayment moves a span of a payment into the trace of the request that pays.
func (c *Correlator) joinPayment(s *Span, step string, now time.Time) {
	if !c.Group || s.Truncated {
		return
	}
	key := treeKey{s.Process, s.TraceID}
	known, ok := c.paid.Get(key)
	if step != cln.StepPayment {
		last := &c.nodes.of(s.Process, now).stream(s.Process).last
		encloses := last.method == step && s.Timestamp <= last.start && last.end <= s.Timestamp+s.Duration
		if !ok && encloses && last.payment.trace.IsValid() {
			known, ok = last.payment, true
			c.paid.Add(key, known)
			known.open(1)
		}
	}
	if !ok {
		return
	}
	s.SentTraceID, s.TraceID = s.TraceID, known.trace
	if step == cln.StepPayment {
		s.ParentID = known.root
		c.paid.Remove(key) // and closes it
	}
	if q := known.request; q != nil && !q.closed {
		q.observe(s, now)
		c.requests.find(q.trace)
	}
}

// open counts the payment among what is open of its request.
func (p payment) open(n int) {
	if p.request != nil {
		p.request.payments += n
	}
}

// abandon ends the payments of a process that has ended.
func (c *Correlator) abandon(p *process.Identity) {
	for _, key := range c.paid.Keys() {
		if key.process == p {
			c.paid.Remove(key)
		}
	}
}
