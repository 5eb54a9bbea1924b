package metrics

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"clntrace/collector/payments"
)

// The names of the metrics of payments and forwards.
const (
	paymentName      = "cln.payment.duration"
	forwardName      = "cln.forward.duration"
	paymentsOpenName = "cln.payment.open"
	forwardsOpenName = "cln.forward.open"
)

// maxReasons bounds the error.type of payments and of forwards: onions know some 40,
// and whoever sends failures may make up others.
const maxReasons = 100

// otherReason stands for the others.
const otherReason = "_OTHER"

// paymentMetrics are the instruments for payments and forwards.
type paymentMetrics struct {
	payment, forward metric.Float64Histogram
	reasons          map[string]bool
}

// definePayments makes the instruments.
func (m *Metrics) definePayments(meter metric.Meter) error {
	var errs [5]error
	p := &m.payments
	p.reasons = make(map[string]bool)
	p.payment, errs[0] = meter.Float64Histogram(paymentName, metric.WithUnit("s"),
		metric.WithDescription("Durations of payments, over all their parts, by how they ended."))
	p.forward, errs[1] = meter.Float64Histogram(forwardName, metric.WithUnit("s"),
		metric.WithDescription("Durations of forwards by how they ended: as a whole (total), until offered on (accept), and until resolved by the next peer (downstream)."))
	if m.options.Payments == nil {
		return errors.Join(errs[:]...)
	}
	open, err := meter.Int64ObservableUpDownCounter(paymentsOpenName, metric.WithUnit("{part}"),
		metric.WithDescription("Parts of payments that have begun and not ended."))
	errs[2] = err
	forwards, err := meter.Int64ObservableUpDownCounter(forwardsOpenName, metric.WithUnit("{forward}"),
		metric.WithDescription("Forwards that have begun and not ended."))
	errs[3] = err
	_, errs[4] = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if s, ok := m.options.Payments(); ok {
			o.ObserveInt64(open, s.Open)
			o.ObserveInt64(forwards, s.ForwardsOpen)
		}
		return nil
	}, open, forwards)
	return errors.Join(errs[:]...)
}

// ObservePayments counts payments and forwards that have ended. It is not safe for
// concurrent use.
func (m *Metrics) ObservePayments(list []payments.Observation) {
	for i := range list {
		o := &list[i]
		switch o.Kind {
		case payments.KindPayment:
			m.record(m.payments.payment, o)
		case payments.KindForward:
			m.record(m.payments.forward, o, attribute.String("phase", "total"))
		case payments.KindAccept:
			m.record(m.payments.forward, o, attribute.String("phase", "accept"))
		case payments.KindDownstream:
			m.record(m.payments.forward, o, attribute.String("phase", "downstream"))
		}
	}
}

func (m *Metrics) record(h metric.Float64Histogram, o *payments.Observation, more ...attribute.KeyValue) {
	outcome := o.Outcome
	if o.Failed { // the outcome says why
		outcome = "failed"
		more = append(more, semconv.ErrorTypeKey.String(m.payments.reason(o.Outcome)))
	}
	more = append(more, attribute.String("outcome", outcome))
	h.Record(context.Background(), max(o.Duration.Seconds(), 0), metric.WithAttributes(more...))
}

// reason returns an error.type, or what stands for all others if there are too many.
func (p *paymentMetrics) reason(errorType string) string {
	if !p.reasons[errorType] {
		if len(p.reasons) >= maxReasons {
			return otherReason
		}
		p.reasons[errorType] = true
	}
	return errorType
}
