package export

import (
	"hash/fnv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/detail"
	"clntrace/collector/process"
	"clntrace/collector/stats"
	"clntrace/collector/zipkin"
)

// Span is a span of another process in the form that the SDK exports. What
// depends on the node (resource, attributes) is filled in when it is exported.
type Span struct {
	// ReadOnlySpan is nil. It lends its unexported method, without which no
	// type outside of the SDK is a span; all others are overridden.
	sdktrace.ReadOnlySpan

	in      zipkin.Span
	process *process.Identity
	detail  string

	scope      *instrumentation.Scope
	resource   *resource.Resource
	attributes []attribute.KeyValue
}

var _ sdktrace.ReadOnlySpan = (*Span)(nil)

// NewSpan returns the span that process sent. Its detail is that of the
// package of the same name.
func NewSpan(in zipkin.Span, process *process.Identity, detail string) *Span {
	s := &Span{in: in, process: process, detail: detail}
	if !s.in.TraceID.IsValid() {
		s.in.TraceID = s.orphanTraceID()
	}
	return s
}

// orphanTraceID makes a trace id for a span that lost its own, the same for
// the same span, so that a repeated datagram does not become two traces.
func (s *Span) orphanTraceID() (id trace.TraceID) {
	h := fnv.New128a()
	_, _ = h.Write([]byte(s.process.Name))
	_, _ = h.Write(s.in.ID[:])
	_, _ = h.Write([]byte(s.in.Start().UTC().Format(time.RFC3339Nano)))
	h.Sum(id[:0])
	return id
}

// size estimates the bytes of s in memory and in an export request, whichever
// is more: what is fixed, and its text.
func (s *Span) size() int {
	const fixed = 400
	n := fixed + len(s.in.Name)
	for i := range s.in.Tags {
		n += len(s.in.Tags[i].Value)
	}
	return n
}

// Name is the span's name as the sender gave it.
func (s *Span) Name() string { return s.in.Name }

// SpanContext holds the ids. It is always sampled, or the SDK would skip it.
func (s *Span) SpanContext() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: s.in.TraceID, SpanID: s.in.ID, TraceFlags: trace.FlagsSampled,
	})
}

// Parent is the parent's context, invalid for a root. A span that lost its
// trace id is a root too: its parent is in a trace that nobody knows.
func (s *Span) Parent() trace.SpanContext {
	if !s.in.ParentID.IsValid() || s.in.Truncated {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: s.in.TraceID, SpanID: s.in.ParentID, TraceFlags: trace.FlagsSampled,
	})
}

// SpanKind follows from what the span is about.
func (s *Span) SpanKind() trace.SpanKind {
	switch {
	case s.in.Name == detail.SpanCommand:
		return trace.SpanKindServer
	case s.in.Name == detail.SpanRequest, s.in.Name == detail.SpanBackend, detail.IsQuery(s.in.Name):
		return trace.SpanKindClient
	}
	return trace.SpanKindInternal
}

// StartTime is when the span began.
func (s *Span) StartTime() time.Time { return s.in.Start() }

// EndTime is when the span ended.
func (s *Span) EndTime() time.Time { return s.in.End() }

// Attributes are the span's tags and what is known besides.
func (s *Span) Attributes() []attribute.KeyValue { return s.attributes }

// Links are the spans of other traces that belong to this one.
func (s *Span) Links() []sdktrace.Link { return nil }

// Events are none: lightningd has no such thing.
func (s *Span) Events() []sdktrace.Event { return nil }

// Status is Error when the sender said so.
func (s *Span) Status() sdktrace.Status {
	if s.in.Failed() {
		return sdktrace.Status{Code: codes.Error}
	}
	return sdktrace.Status{}
}

// InstrumentationScope names clntrace and its version.
func (s *Span) InstrumentationScope() instrumentation.Scope {
	if s.scope == nil {
		return instrumentation.Scope{}
	}
	return *s.scope
}

// InstrumentationLibrary is InstrumentationScope under its old name.
//
//nolint:staticcheck // the interface demands the deprecated type
func (s *Span) InstrumentationLibrary() instrumentation.Library { return s.InstrumentationScope() }

// Resource is the process that sent the span.
func (s *Span) Resource() *resource.Resource { return s.resource }

// DroppedAttributes is 0: none are.
func (s *Span) DroppedAttributes() int { return 0 }

// DroppedLinks is 0: none are.
func (s *Span) DroppedLinks() int { return 0 }

// DroppedEvents is 0: there are none.
func (s *Span) DroppedEvents() int { return 0 }

// ChildSpanCount is 0: it is not known, and OTLP does not carry it.
func (s *Span) ChildSpanCount() int { return 0 }

// Truncated tells whether the span lost its trace id.
func (s *Span) Truncated() bool { return s.in.Truncated }

// Observation is the span as the statistics see it, under policy p.
func (s *Span) Observation(p *Policy) stats.Observation {
	return stats.Observation{
		Process: s.process, Span: s.in.Name, Detail: p.Detail(s),
		Duration: time.Duration(s.in.Duration) * time.Microsecond, Failed: s.in.Failed(),
	}
}
