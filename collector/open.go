package collector

import (
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/recorder"
)

// openTraces tells what is running now.
type openTraces struct{ *Collector }

var _ recorder.Open = openTraces{}

// OpenTraces returns the requests that are open.
func (o openTraces) OpenTraces(now time.Time) (list []recorder.Summary) {
	o.ask(func(d *decoder) {
		for _, q := range d.correlator.OpenRequests(now) {
			list = append(list, o.openRequest(q, now))
		}
	})
	return list
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
