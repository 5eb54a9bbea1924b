package metrics

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"clntrace/collector/cln"
	"clntrace/collector/stats"
)

const (
	// maxSeries bounds the histograms, as tracestats bounds its rows: a node has
	// some 450 operations, and only a hostile sender makes more than this.
	maxSeries = stats.MaxOperations
	// spareSeries are two for the operations beyond maxSeries (failed or not), one
	// that the SDK reserves for its own overflow and so never uses, and one because
	// the SDK stays one below its limit.
	spareSeries = 4
	// otherSpan is the span name under which the operations beyond are counted.
	otherSpan = "(other)"
)

// operation tells series apart.
type operation struct {
	process, span, detail string
	failed                bool
}

// series identifies the series of an operation to the SDK. Building the attributes
// for each span would cost more than everything else here.
type series []metric.RecordOption

// Observe counts spans. It is not safe for concurrent use.
func (m *Metrics) Observe(spans []stats.Observation) {
	ctx := context.Background()
	for i := range spans {
		s := &spans[i]
		m.duration.Record(ctx, max(s.Duration.Seconds(), 0), m.of(s)...)
	}
}

func (m *Metrics) of(s *stats.Observation) series {
	key := operation{stats.Clip(s.Process.Name), stats.Clip(s.Span), stats.Clip(s.Detail), s.Failed}
	if known := m.series[key]; known != nil {
		return known
	}
	if len(m.series) >= maxSeries {
		key = operation{span: otherSpan, failed: s.Failed}
		if known := m.series[key]; known != nil {
			return known
		}
	}
	// Copies, because the strings may be parts of much longer ones.
	key.process, key.span, key.detail = strings.Clone(key.process), strings.Clone(key.span), strings.Clone(key.detail)
	made := series{metric.WithAttributeSet(attribute.NewSet(m.attributes(key)...))}
	m.series[key] = made
	return made
}

func (m *Metrics) attributes(o operation) []attribute.KeyValue {
	list := []attribute.KeyValue{attribute.String("span.name", o.span)}
	if m.service != "" {
		o.process = m.service
	}
	if o.process != "" {
		list = append(list, semconv.ServiceName(o.process))
	}
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
