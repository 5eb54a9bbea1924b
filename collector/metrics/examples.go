package metrics

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/payments"
	"clntrace/collector/stats"
)

// Example is a span that somebody can look at, and what was observed of it.
type Example struct {
	stats.Observation               // as Observe got it
	Payment           payments.Kind // empty: it is of no payment or forward
	Outcome           string        // of those, as ObservePayments got it
	Paired            bool          // Wait is what ObserveWaits got
	Wait              time.Duration
	TraceID           trace.TraceID
	SpanID            trace.SpanID
	// Exported says that the span leaves the node. Others are in the recorder.
	Exported bool
}

// grades are the bounds of durations, in seconds, that have an exemplar each.
var grades = [...]float64{.001, .01, .1, 1, 10, 60}

// examples are the last spans of a series, one for each grade of their duration: the SDK
// chooses when a value is recorded, and then it is not known yet whether the span
// leaves, and in which trace. It is safe for concurrent use.
type examples struct {
	mu   sync.Mutex
	list []example // by grade; nil: none yet
}

type example struct {
	seconds  float64
	at       time.Time // zero: none
	traceID  trace.TraceID
	spanID   trace.SpanID
	exported bool
}

var _ exemplar.Reservoir = (*examples)(nil)

func (l *examples) put(e example) {
	grade := 0
	for grade < len(grades) && e.seconds > grades[grade] {
		grade++
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list == nil {
		l.list = make([]example, len(grades)+1)
	}
	l.list[grade] = e
}

// Offer does nothing: see examples.
func (l *examples) Offer(context.Context, time.Time, exemplar.Value, []attribute.KeyValue) {}

// Collect returns the examples by their time: of a series without buckets Prometheus
// takes none that is older than the one before, and the slow ones are mostly older.
func (l *examples) Collect(to *[]exemplar.Exemplar) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*to = (*to)[:0]
	for i := range l.list {
		e := &l.list[i]
		if e.at.IsZero() {
			continue
		}
		*to = append(*to, exemplar.Exemplar{
			Time: e.at, Value: exemplar.NewValue(e.seconds), TraceID: slices.Clone(e.traceID[:]), SpanID: slices.Clone(e.spanID[:]),
		})
	}
	slices.SortStableFunc(*to, func(a, b exemplar.Exemplar) int { return a.Time.Compare(b.Time) })
}

// unsure adds to ids the traces of examples that are in the recorder alone.
func (l *examples) unsure(ids map[trace.TraceID]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.list {
		if e := &l.list[i]; !e.at.IsZero() && !e.exported {
			ids[e.traceID] = true
		}
	}
}

// retain removes the examples that are in the recorder alone and not among ids.
func (l *examples) retain(ids map[trace.TraceID]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.list {
		if e := &l.list[i]; !e.exported && !ids[e.traceID] {
			*e = example{}
		}
	}
}

// Exemplify makes s an exemplar of the series that it was observed in. It does nothing
// if there are none. It is not safe for concurrent use, nor beside Observe.
func (m *Metrics) Exemplify(s *Example, now time.Time) {
	e := example{max(s.Duration.Seconds(), 0), now, s.TraceID, s.SpanID, s.Exported}
	if s.Payment != "" {
		m.exemplifyPayment(s, e)
		return
	}
	m.series[keyOf(&s.Observation)].put(e)
	if s.Paired {
		e.seconds = max(s.Wait.Seconds(), 0)
		m.waits[waitKey(s.Process.Name, s.Detail)].put(e)
	}
}

// WantsRecorded reports whether spans that are in the recorder alone can be exemplars.
// What is sent names only what is sent.
func (m *Metrics) WantsRecorded() bool { return m.scrape != nil && m.options.Retain != nil }
