package export

import (
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/payments"
	"clntrace/collector/policy"
	"clntrace/collector/stats"
)

// What is on disk was described under the policy of its time. So what the operator has
// hidden since is taken out of it before it leaves, as if it were described only now.

// redact returns what of a batch of the spool may leave, as it may be shown now. Spans
// that may not leave at all count as filtered.
func (d *delivery) redact(batch []*tracepb.ResourceSpans) []*tracepb.ResourceSpans {
	if p := d.policy(); p.HoldsBack() {
		batch, _ = d.holdBack(batch, p, func(spans int64) stats.Counts { return stats.Counts{Spooled: -spans} })
	}
	return batch
}

// describeAnew is redact for a new batch that has waited in memory, of so many spans. It
// returns how many are left.
func (d *delivery) describeAnew(batch []*tracepb.ResourceSpans, spans int64, p *policy.Policy) ([]*tracepb.ResourceSpans, int64) {
	if !p.HoldsBack() {
		return batch, spans
	}
	var request coltracepb.ExportTraceServiceRequest // for the attributes are in wire form
	body, err := proto.Marshal(&coltracepb.ExportTraceServiceRequest{ResourceSpans: batch})
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil {
		d.reject(spans, err)
		return nil, 0
	}
	return d.holdBack(request.GetResourceSpans(), p, func(spans int64) stats.Counts { return stats.Counts{Pending: -spans} })
}

// holdBack takes out of a batch what p does not show, and returns how many spans are
// left. from says where those were that may not leave.
func (d *delivery) holdBack(batch []*tracepb.ResourceSpans, p *policy.Policy, from func(spans int64) stats.Counts) ([]*tracepb.ResourceSpans, int64) {
	spans := countSpans(batch)
	batch = redact(batch, p)
	left := countSpans(batch)
	if filtered := spans - left; filtered > 0 {
		d.ledger.Book(from(filtered).Add(stats.Counts{Filtered: filtered}), time.Now())
	}
	return batch, left
}

func redact(batch []*tracepb.ResourceSpans, p *policy.Policy) []*tracepb.ResourceSpans {
	return slices.DeleteFunc(batch, func(r *tracepb.ResourceSpans) bool {
		r.ScopeSpans = slices.DeleteFunc(r.GetScopeSpans(), func(scope *tracepb.ScopeSpans) bool {
			scope.Spans = slices.DeleteFunc(scope.GetSpans(), func(s *tracepb.Span) bool { return !redactSpan(s, p) })
			return len(scope.GetSpans()) == 0
		})
		return len(r.GetScopeSpans()) == 0
	})
}

// redactSpan takes out of s what p does not show, and reports whether the rest may leave.
func redactSpan(s *tracepb.Span, p *policy.Policy) (leaves bool) {
	was, facts := read(s)
	if p.Payments() < payments.Outcomes {
		if was.Payment != nil { // made of notifications alone
			return false
		}
		s.Links = slices.DeleteFunc(s.GetLinks(), isForPayment)
	}
	hidden := p.Detail(was) == policy.Redacted
	if hidden || was.IsRoot() {
		s.Name = p.Name(was)
	}
	s.Attributes = slices.DeleteFunc(s.GetAttributes(), func(a *commonpb.KeyValue) bool {
		shown, redacted := shows(p, attribute.Key(a.GetKey()), hidden)
		if redacted {
			a.Value = &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: policy.Redacted}}
		}
		return !shown
	})
	if s.GetStatus().GetMessage() != "" {
		s.Status.Message = p.Description(facts)
	}
	return true
}

// read returns what a policy has to know of the span that s was made of, and of its
// payment or forward.
func read(s *tracepb.Span) (*correlate.Span, *payments.Facts) {
	was, facts := new(correlate.Span), &payments.Facts{Reason: s.GetStatus().GetMessage()}
	was.Name = s.GetName()
	var method, summary string
	rpc := false
	for _, a := range s.GetAttributes() {
		switch attribute.Key(a.GetKey()) {
		case keySpanName:
			was.Name = a.GetValue().GetStringValue()
		case keySynthetic:
			was.Synthetic = a.GetValue().GetBoolValue()
		case semconv.ErrorTypeKey:
			facts.ErrorType = a.GetValue().GetStringValue()
		case semconv.RPCSystemNameKey:
			rpc = true
		case semconv.RPCMethodKey:
			method = a.GetValue().GetStringValue()
		case semconv.DBQuerySummaryKey:
			summary = a.GetValue().GetStringValue()
		}
	}
	if was.Synthetic && !rpc { // the root of a request has a method
		was.Payment, facts.Kind = facts, payments.Kind(was.Name)
	}
	if was.Detail = method; cln.IsQuery(was.Name) {
		was.Detail = summary
	}
	return was, facts
}

// shows reports whether p shows the attribute with that key, and whether its value is
// redacted. detailHidden says that the span's detail is.
func shows(p *policy.Policy, key attribute.Key, detailHidden bool) (shown, redacted bool) {
	hides := func(tag string) bool { return p.Show(tag, "") == policy.Redacted }
	class, isFact := payments.ClassOf(key)
	switch {
	case isFact:
		return p.ShowsFact(class)
	case key == keyBlockHeight:
		return p.Payments() >= payments.Outcomes, false
	case key == keySpanName: // it is the span's name, or will be
		return !detailHidden, false
	case key == keyRequestRoot:
		return true, hides(cln.TagID)
	case key == semconv.DBQueryTextKey:
		return true, hides(cln.TagQuery)
	case detailHidden && (key == semconv.RPCMethodKey || key == semconv.DBQuerySummaryKey):
		return true, true
	}
	return true, hides(string(key))
}

// isForPayment reports whether a link leads to a payment.
func isForPayment(l *tracepb.Span_Link) bool {
	return slices.ContainsFunc(l.GetAttributes(), func(a *commonpb.KeyValue) bool {
		return a.GetKey() == string(keyLink) && a.GetValue().GetStringValue() == string(correlate.ForPayment)
	})
}
