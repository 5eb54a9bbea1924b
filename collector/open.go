package collector

import (
	"fmt"
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

// maxOpen bounds the parts of payments and the forwards that are listed as open.
const maxOpen = 1000

// OpenTraces returns the requests, the parts of payments and the forwards that are
// open.
func (o openTraces) OpenTraces(now time.Time) (list []recorder.Summary) {
	o.ask(func(d *decoder) {
		for _, q := range d.correlator.OpenRequests(now) {
			list = append(list, o.openRequest(q, now))
		}
	})
	if o.paymentState(now) == nil {
		return list
	}
	o.payments.mu.Lock()
	open := o.payments.tracker.Open(maxOpen)
	o.payments.mu.Unlock()
	for _, p := range open {
		list = append(list, openPayment(o.policy.Load(), p, now))
	}
	return list
}

// openPayment is a part of a payment, or a forward, with what may be shown of it.
func openPayment(p *policy.Policy, open payments.Open, now time.Time) recorder.Summary {
	s := recorder.Summary{
		StartedAt: open.Since.UTC(), DurationMS: float64(now.Sub(open.Since).Microseconds()) / 1000,
		Process: open.Program, Span: string(open.Kind), Status: recorder.StatusOpen,
	}
	if open.Hash != (cln.Hash{}) {
		s.PaymentHash = p.Show(string(payments.Hash), open.Hash.String())
	}
	if open.Request.IsValid() {
		s.TraceID = open.Request.String()
	}
	var channels []string
	for _, c := range open.Channels {
		channels = append(channels, p.ShowChannel(c))
	}
	switch {
	case open.Kind == payments.KindPart:
		s.Detail = fmt.Sprint(open.Part)
		if len(channels) > 0 {
			s.Detail += " over " + strings.Join(channels, ", ")
		}
	case len(channels) > 0:
		s.Detail = "from " + strings.Join(channels, " to ")
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
		Process: q.Process.Name, Span: cln.SpanWhole, Detail: p.Show(cln.TagID, q.Method), Status: recorder.StatusOpen,
		WaitsFor: p.Show(cln.TagMethod, q.WaitsFor),
	}
}
