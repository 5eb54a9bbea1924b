package export

import (
	"time"
	"unsafe"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
)

// readOnlySpan is a span of another process in the form that the SDK exports. What
// depends on the node and on the policy (resource, name, attributes) is filled in
// when it is exported.
type readOnlySpan struct {
	// ReadOnlySpan is nil. It is embedded for its unexported method, without which a
	// type outside of the SDK cannot be a span. All other methods are overridden.
	sdktrace.ReadOnlySpan

	in  *correlate.Span
	out *outgoing // not nil
}

// outgoing is what a span has only while it is exported. So what waits for that is small.
type outgoing struct {
	name       string
	scope      *instrumentation.Scope
	resource   *resource.Resource
	attributes []attribute.KeyValue
	encoded    []byte // the attributes in wire form
	reason     string // of a failure, if it is known
	links      []sdktrace.Link
}

// queued is the outgoing of spans that are not exported yet. It stays empty.
var queued outgoing

var _ sdktrace.ReadOnlySpan = (*readOnlySpan)(nil)

// SpanOverhead is how many bytes a span that waits for export takes, besides itself:
// its form for the SDK, and a place in the SDK's queue.
const SpanOverhead = int(unsafe.Sizeof(readOnlySpan{})) + int(unsafe.Sizeof(sdktrace.ReadOnlySpan(nil)))

// leastRequestSize is what requestSize returns at least.
const leastRequestSize = 500

// requestSize estimates, rather too high, how many bytes s takes in an export
// request, where nothing is shared.
func requestSize(s *correlate.Span) int {
	const tag, link = 32, 100
	n := leastRequestSize + len(s.Name) + len(s.Detail) + len(s.Request) + tag*len(s.Tags) + link*len(s.Links)
	for i := range s.Tags {
		n += len(s.Tags[i].Key) + len(s.Tags[i].Value)
	}
	if f := s.Payment; f != nil {
		const each, route = 120, 64 * 32 // a node has 66 digits, and a route at most 64 hops
		n += each*len(f.Attributes) + route
	}
	return n
}

// Name is the span's name as it may be shown.
func (s *readOnlySpan) Name() string { return s.out.name }

// SpanContext holds the ids. It is always sampled, or the SDK would skip the span.
func (s *readOnlySpan) SpanContext() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: s.in.TraceID, SpanID: s.in.ID, TraceFlags: trace.FlagsSampled,
	})
}

// Parent is the parent's context, invalid for a root. A span whose trace id was cut
// off is a root too, because its parent is in a trace that nobody knows.
func (s *readOnlySpan) Parent() trace.SpanContext {
	if !s.in.ParentID.IsValid() || s.in.Truncated {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: s.in.TraceID, SpanID: s.in.ParentID, TraceFlags: trace.FlagsSampled,
	})
}

// SpanKind follows from what the span is about.
func (s *readOnlySpan) SpanKind() trace.SpanKind {
	switch {
	case s.in.Name == cln.SpanCommand, s.in.IsRoot():
		return trace.SpanKindServer
	case s.in.Name == cln.SpanRequest, s.in.Name == cln.SpanBackend, cln.IsQuery(s.in.Name):
		return trace.SpanKindClient
	}
	return trace.SpanKindInternal
}

// StartTime is when the span began.
func (s *readOnlySpan) StartTime() time.Time { return s.in.Start() }

// EndTime is when the span ended.
func (s *readOnlySpan) EndTime() time.Time { return s.in.End() }

// Attributes are the span's tags and what else is known of it.
func (s *readOnlySpan) Attributes() []attribute.KeyValue { return s.out.attributes }

// Links are the spans of other traces that belong to this one.
func (s *readOnlySpan) Links() []sdktrace.Link { return s.out.links }

// Events returns none: lightningd has no such thing.
func (s *readOnlySpan) Events() []sdktrace.Event { return nil }

// Status is Error when the sender said so.
func (s *readOnlySpan) Status() sdktrace.Status {
	if s.in.Failed() {
		return sdktrace.Status{Code: codes.Error, Description: s.out.reason}
	}
	return sdktrace.Status{}
}

// InstrumentationScope names clntrace and its version.
func (s *readOnlySpan) InstrumentationScope() instrumentation.Scope {
	if s.out.scope == nil {
		return instrumentation.Scope{}
	}
	return *s.out.scope
}

// InstrumentationLibrary is InstrumentationScope under its old name.
//
//nolint:staticcheck // the interface demands the deprecated type
func (s *readOnlySpan) InstrumentationLibrary() instrumentation.Library {
	return s.InstrumentationScope()
}

// Resource is the process that sent the span.
func (s *readOnlySpan) Resource() *resource.Resource { return s.out.resource }

// DroppedAttributes is 0: none are.
func (s *readOnlySpan) DroppedAttributes() int { return 0 }

// DroppedLinks is 0: none are.
func (s *readOnlySpan) DroppedLinks() int { return 0 }

// DroppedEvents is 0: there are none.
func (s *readOnlySpan) DroppedEvents() int { return 0 }

// ChildSpanCount is 0: it is not known, and OTLP does not carry it.
func (s *readOnlySpan) ChildSpanCount() int { return 0 }
