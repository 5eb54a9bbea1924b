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

// defineOpen makes the instruments for what is open.
func defineOpen(api metric.Meter, o *Options) error {
	if o.Payments == nil {
		return nil
	}
	var errs [3]error
	open, err := api.Int64ObservableUpDownCounter(paymentsOpenName, metric.WithUnit("{part}"),
		metric.WithDescription("Parts of payments that have begun and not ended."))
	errs[0] = err
	forwards, err := api.Int64ObservableUpDownCounter(forwardsOpenName, metric.WithUnit("{forward}"),
		metric.WithDescription("Forwards that have begun and not ended."))
	errs[1] = err
	_, errs[2] = api.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		if s, ok := o.Payments(); ok {
			to.ObserveInt64(open, s.Open)
			to.ObserveInt64(forwards, s.ForwardsOpen)
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
		for _, to := range m.meters() {
			if f, set := to.paymentSeries(o.Kind, o.Outcome, o.Failed); f != nil {
				f.record(f.point(attribute.NewSet(set...)), o.Duration.Seconds())
			}
		}
	}
}

// exemplifyPayment is Exemplify for payments and forwards.
func (m *Metrics) exemplifyPayment(s *Example, e example) {
	for _, to := range m.meters() {
		if to == m.sent && !e.exported {
			continue
		}
		if f, set := to.paymentSeries(s.Payment, s.Outcome, s.Failed); f != nil {
			if p := f.known(set); p != nil {
				p.examples.put(e)
			}
		}
	}
}

// meters are those that there are.
func (m *Metrics) meters() (list []*meter) {
	if m.sent != nil {
		list = append(list, m.sent)
	}
	if m.scrape != nil {
		list = append(list, m.scrape.meter)
	}
	return list
}

// paymentSeries says where a payment or forward counts: nil for nowhere.
func (m *meter) paymentSeries(kind payments.Kind, outcome string, failed bool) (*family, []attribute.KeyValue) {
	switch kind {
	case payments.KindPayment:
		return m.payment, outcomeAttributes(outcome, failed, &m.reasons)
	case payments.KindForward:
		return m.forward, append(outcomeAttributes(outcome, failed, &m.forwardReasons), attribute.String("phase", "total"))
	case payments.KindAccept:
		return m.forward, append(outcomeAttributes(outcome, failed, &m.forwardReasons), attribute.String("phase", "accept"))
	case payments.KindDownstream:
		return m.forward, append(outcomeAttributes(outcome, failed, &m.forwardReasons), attribute.String("phase", "downstream"))
	}
	return nil, nil
}

func outcomeAttributes(outcome string, failed bool, reasons *names) []attribute.KeyValue {
	if !failed {
		return []attribute.KeyValue{attribute.String("outcome", outcome)}
	}
	return []attribute.KeyValue{
		attribute.String("outcome", "failed"),
		semconv.ErrorTypeKey.String(reasons.of(outcome, otherValue)), // the outcome says why
	}
}
