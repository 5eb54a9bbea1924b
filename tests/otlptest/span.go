package otlptest

import (
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Span is one received span, with what OTLP says once for many of them.
type Span struct {
	TraceID, ID, ParentID string // lower-case hex; ParentID is empty on roots
	Name                  string
	Kind                  string // "Client", "Server", "Internal", …
	Start                 time.Time
	Duration              time.Duration
	Status                string // "Unset", "Ok" or "Error"
	StatusMessage         string
	Attributes            map[string]any
	Links                 []Link

	Resource              map[string]any
	Scope, ScopeVersion   string
	SchemaURL             string // the scope's, else the resource's
	DroppedAttributeCount uint32
}

// Link points to a span of this trace or another.
type Link struct {
	TraceID, SpanID string
	Attributes      map[string]any
}

// SpansOf returns the spans that td holds.
func SpansOf(td ptrace.Traces) []Span {
	var spans []Span
	for _, rs := range td.ResourceSpans().All() {
		resource := rs.Resource().Attributes().AsRaw()
		for _, ss := range rs.ScopeSpans().All() {
			schema := ss.SchemaUrl()
			if schema == "" {
				schema = rs.SchemaUrl()
			}
			for _, s := range ss.Spans().All() {
				span := fromOTLP(s)
				span.Resource, span.SchemaURL = resource, schema
				span.Scope, span.ScopeVersion = ss.Scope().Name(), ss.Scope().Version()
				spans = append(spans, span)
			}
		}
	}
	return spans
}

func fromOTLP(s ptrace.Span) Span {
	span := Span{
		TraceID: s.TraceID().String(), ID: s.SpanID().String(), ParentID: s.ParentSpanID().String(),
		Name:          s.Name(),
		Kind:          s.Kind().String(),
		Start:         s.StartTimestamp().AsTime(),
		Duration:      time.Duration(s.EndTimestamp() - s.StartTimestamp()),
		Status:        s.Status().Code().String(),
		StatusMessage: s.Status().Message(),
		Attributes:    s.Attributes().AsRaw(),

		DroppedAttributeCount: s.DroppedAttributesCount(),
	}
	for _, l := range s.Links().All() {
		span.Links = append(span.Links, Link{
			TraceID: l.TraceID().String(), SpanID: l.SpanID().String(), Attributes: l.Attributes().AsRaw(),
		})
	}
	return span
}
