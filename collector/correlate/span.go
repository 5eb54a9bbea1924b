package correlate

import (
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/process"
	"clntrace/collector/zipkin"
)

// Span is a span with its sender and its relations.
type Span struct {
	zipkin.Span
	Process *process.Identity
	Detail  string // from package cln

	// SentTraceID and SentID are the sender's ids, if grouping gave the span others.
	SentTraceID trace.TraceID
	SentID      trace.SpanID
	// Synthetic says that the span was added here, as the root of a request.
	Synthetic bool
	// Request is the first component of the request's id: what a user or timer
	// asked for. Empty for spans that are not requests.
	Request string
	Links   []Link

	// Relative is the trace of a relative that came before (package parents); zero:
	// none. A cut span gets it.
	Relative trace.TraceID
}

// Relation says why two spans are linked.
type Relation string

// The relations, as values of the attribute cln.link.
const (
	// ServedBy leads from a plugin's request to lightningd's work on it.
	ServedBy Relation = "served_by"
	// Encloses leads from a request to those that other processes made during it,
	// where parent ids cannot say so.
	Encloses Relation = "encloses"
)

// Link is a relation to a span of another trace.
type Link struct {
	Relation Relation
	TraceID  trace.TraceID
	SpanID   trace.SpanID
}

// path returns the path of s if it is a request, or "".
func (s *Span) path() cln.Path {
	if s.Name != cln.SpanRequest {
		return ""
	}
	return cln.Path(s.Tag(cln.TagID))
}

// key identifies a span. Ids alone do not: under CLN_DEV_ENTROPY_SEED they are
// counters, which are the same in all processes.
type key struct {
	process *process.Identity
	id      trace.SpanID
}
