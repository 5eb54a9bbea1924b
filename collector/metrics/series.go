package metrics

import (
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"clntrace/collector/cln"
	"clntrace/collector/stats"
)

const (
	// maxSeries bounds the histograms that are sent, as tracestats bounds its rows: a
	// node has some 450 operations, and only a hostile sender makes more than this.
	maxSeries = stats.MaxOperations
	// maxWaits bounds those of waits: each plugin has a few methods that it calls.
	maxWaits = 500
	// spareSeries are two for the operations beyond maxSeries (failed or not), one
	// that the SDK reserves for its own overflow and so never uses, and one because
	// the SDK stays one below its limit.
	spareSeries = 4
	// otherSpan is the span name under which the operations beyond are counted.
	otherSpan = "(other)"
	// otherValue stands for all values beyond the bounds of other attributes.
	otherValue = "_OTHER"
)

// operation tells series apart.
type operation struct {
	process, span, detail string
	failed                bool
}

func keyOf(s *stats.Observation) operation {
	return operation{stats.Clip(s.Process.Name), stats.Clip(s.Span), stats.Clip(s.Detail), s.Failed}
}

func waitKey(process, method string) operation {
	return operation{process: stats.Clip(process), detail: stats.Clip(method)}
}

// clone copies the strings, because they may be parts of much longer ones.
func (o operation) clone() operation {
	o.process, o.span, o.detail = strings.Clone(o.process), strings.Clone(o.span), strings.Clone(o.detail)
	return o
}

// series are those of one operation: the one that is sent, and the one that Prometheus
// may scrape. They are nil if there are none of the kind.
type series struct{ sent, scraped *point }

// put makes e an exemplar. s may be nil.
func (s *series) put(e example) {
	if s == nil {
		return
	}
	if s.sent != nil && e.exported {
		s.sent.examples.put(e)
	}
	if s.scraped != nil {
		s.scraped.examples.put(e)
	}
}

// Observe counts spans. It is not safe for concurrent use.
func (m *Metrics) Observe(spans []stats.Observation) {
	for i := range spans {
		s := &spans[i]
		to, seconds := m.of(s), s.Duration.Seconds()
		if to.sent != nil {
			m.sent.duration.record(to.sent, seconds)
		}
		if to.scraped != nil {
			m.scrape.duration.record(to.scraped, seconds)
		}
	}
}

func (m *Metrics) of(s *stats.Observation) *series {
	key := keyOf(s)
	if known := m.series[key]; known != nil {
		return known
	}
	if len(m.series) >= maxSeries {
		key = operation{span: otherSpan, failed: s.Failed}
		if known := m.series[key]; known != nil {
			return known
		}
	}
	key = key.clone()
	made := new(series)
	if m.sent != nil {
		made.sent = m.sent.duration.point(attribute.NewSet(m.attributes(key)...))
	}
	if m.scrape != nil {
		made.scraped = m.scrape.duration.point(attribute.NewSet(m.scrape.attributes(key)...))
	}
	m.series[key] = made
	return made
}

func (m *Metrics) attributes(o operation) []attribute.KeyValue {
	list := append(m.service(o), attribute.String("span.name", o.span))
	switch {
	case o.detail == "":
	case cln.IsQuery(o.span):
		list = append(list, semconv.DBQuerySummary(o.detail))
	default:
		list = append(list, semconv.RPCMethod(o.detail))
	}
	if o.failed {
		list = append(list, semconv.ErrorTypeOther) // lightningd does not say which error
	}
	return list
}

func (m *Metrics) service(o operation) []attribute.KeyValue {
	if m.options.ServiceName != "" {
		o.process = m.options.ServiceName
	}
	if o.process == "" {
		return nil
	}
	return []attribute.KeyValue{semconv.ServiceName(o.process)}
}

// ObserveWaits counts how long requests waited for lightningd. It is not safe for
// concurrent use.
func (m *Metrics) ObserveWaits(requests []stats.Pairing) {
	for i := range requests {
		r := &requests[i]
		to, seconds := m.waitsOf(r), r.Wait.Seconds()
		if to.sent != nil {
			m.sent.wait.record(to.sent, seconds)
		}
		if to.scraped != nil {
			m.scrape.wait.record(to.scraped, seconds)
		}
	}
}

func (m *Metrics) waitsOf(r *stats.Pairing) *series {
	key := waitKey(r.Process.Name, r.Detail)
	if known := m.waits[key]; known != nil {
		return known
	}
	if len(m.waits) >= maxWaits {
		key = operation{detail: otherValue}
		if known := m.waits[key]; known != nil {
			return known
		}
	}
	key = key.clone()
	made := new(series)
	if m.sent != nil {
		made.sent = m.sent.wait.point(attribute.NewSet(append(m.service(key), semconv.RPCMethod(key.detail))...))
	}
	if m.scrape != nil {
		method := m.scrape.waits.of(key.detail, otherValue)
		made.scraped = m.scrape.wait.point(attribute.NewSet(semconv.RPCMethod(method)))
	}
	m.waits[key] = made
	return made
}
