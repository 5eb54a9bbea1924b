package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"clntrace/collector/cln"
)

// The SDK's series last as long as the process. What was observed before the operator
// wanted it hidden is taken out on the way.

// What the histograms with such series are called where Prometheus scrapes them.
const (
	scrapedDuration = "cln_span_duration_seconds"
	scrapedWait     = "cln_request_wait_seconds"
	scrapedPayment  = "cln_payment_duration_seconds"
	scrapedForward  = "cln_forward_duration_seconds"
)

// hides reports whether a series of a metric may not leave.
func (o *Options) hides(name, span, detail string) bool {
	switch name {
	case durationName, scrapedDuration:
		return o.Hides != nil && o.Hides(span, detail)
	case waitName, scrapedWait:
		return o.Hides != nil && o.Hides(cln.SpanRequest, detail)
	case paymentName, scrapedPayment, forwardName, scrapedForward:
		return o.HidesPayments != nil && o.HidesPayments()
	}
	return false
}

// hide takes out of rm the series that may not leave.
func hide(rm *metricdata.ResourceMetrics, hides func(name, span, detail string) bool) {
	for i := range rm.ScopeMetrics {
		scope := &rm.ScopeMetrics[i]
		scope.Metrics = slices.DeleteFunc(scope.Metrics, func(m metricdata.Metrics) bool {
			data, ok := m.Data.(metricdata.ExponentialHistogram[float64])
			return ok && len(data.DataPoints) > 0 && !slices.ContainsFunc(data.DataPoints, func(p metricdata.ExponentialHistogramDataPoint[float64]) bool {
				return !hides(m.Name, text(&p.Attributes, keySpanName), detail(&p.Attributes))
			})
		})
		for j := range scope.Metrics {
			m := &scope.Metrics[j]
			if data, ok := m.Data.(metricdata.ExponentialHistogram[float64]); ok {
				data.DataPoints = slices.DeleteFunc(data.DataPoints, func(p metricdata.ExponentialHistogramDataPoint[float64]) bool {
					return hides(m.Name, text(&p.Attributes, keySpanName), detail(&p.Attributes))
				})
				m.Data = data
			}
		}
	}
}

const keySpanName = attribute.Key("span.name")

func text(set *attribute.Set, key attribute.Key) string {
	value, _ := set.Value(key) // that of a missing one is empty
	return value.AsString()
}

func detail(set *attribute.Set) string {
	if method := text(set, semconv.RPCMethodKey); method != "" {
		return method
	}
	return text(set, semconv.DBQuerySummaryKey)
}

// showable is what may be scraped of a Gatherer.
type showable struct {
	prometheus.Gatherer
	options *Options
}

// Gather gathers the series that may leave.
func (g showable) Gather() ([]*dto.MetricFamily, error) {
	families, err := g.Gatherer.Gather()
	for _, f := range families {
		f.Metric = slices.DeleteFunc(f.Metric, func(m *dto.Metric) bool {
			return g.options.hides(f.GetName(), label(m, "span_name"), label(m, "rpc_method"))
		})
	}
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 }), err
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
