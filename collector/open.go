package collector

import (
	"strings"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/payments"
	"clntrace/collector/policy"
	"clntrace/collector/recorder"
)

// openTraces tells what is running now.
type openTraces struct{ *Collector }

var _ recorder.Open = openTraces{}

// maxOpen bounds the parts and forwards that are listed.
const maxOpen = 1000

// OpenTraces returns the requests, the parts of payments and the forwards that are
// open.
func (o openTraces) OpenTraces(now time.Time) (list []recorder.Summary) {
	o.ask(func(d *decoder) {
		for _, q := range d.correlator.OpenRequests(now) {
			list = append(list, o.openRequest(q, now))
		}
	})
	p := o.policy.Load()
	if p.Payments() == payments.Off {
		return list
	}
	o.payments.mu.Lock()
	defer o.payments.mu.Unlock()
	for _, part := range o.payments.tracker.Open(maxOpen) {
		list = append(list, openPayment(part, p, now))
	}
	return list
}

// openPayment is a part of a payment, or a forward, with what may be shown of it.
func openPayment(o payments.Open, p *policy.Policy, now time.Time) recorder.Summary {
	over := make([]string, len(o.Channels))
	for i, c := range o.Channels {
		over[i] = p.ShowChannel(c)
	}
	s := recorder.Summary{
		StartedAt: o.Since.UTC(), DurationMS: float64(now.Sub(o.Since).Microseconds()) / 1000,
		Process: o.Program, Span: string(o.Kind), Detail: strings.Join(over, ", "), Status: recorder.StatusOpen,
	}
	if o.Hash != (cln.Hash{}) {
		s.PaymentHash = p.Show(string(payments.Hash), o.Hash.String())
	}
	return s
}

// ask lets the decoder call f, and waits until it has. If the decoder has ended, f is
// not called.
func (c *Collector) ask(f func(*decoder)) {
	answered := make(chan struct{})
	select {
	case c.asked <- func(d *decoder) { defer close(answered); f(d) }:
		<-answered
	case <-c.decoding:
	}
}

// openRequest is q with what may be shown of it.
func (c *Collector) openRequest(q correlate.OpenRequest, now time.Time) recorder.Summary {
	p := c.policy.Load()
	began := time.UnixMicro(q.Start)
	return recorder.Summary{
		TraceID: q.TraceID.String(), StartedAt: began.UTC(), DurationMS: float64(now.Sub(began).Microseconds()) / 1000,
		Process: q.Process.Name, Span: requestSpan, Detail: p.Show(cln.TagID, q.Method), Status: recorder.StatusOpen,
		WaitsFor: p.Show(cln.TagMethod, q.WaitsFor),
	}
}
