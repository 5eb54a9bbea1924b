package correlate

import (
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/detail"
	"clntrace/collector/process"
	"clntrace/collector/request"
	"clntrace/collector/zipkin"
)

// Span is a span with its sender and its relations.
type Span struct {
	zipkin.Span
	Process *process.Identity
	Detail  string // as of package detail

	// SentTraceID and SentID are the ids that the sender gave, if the span has
	// others now.
	SentTraceID trace.TraceID
	SentID      trace.SpanID
	// Synthetic tells that nobody sent the span: it is the root of a request.
	Synthetic bool
	// Request is the first component of the request's id: what a user or timer
	// asked for. Empty for spans that are not requests.
	Request string
	Links   []Link

	relative trace.TraceID // of a relative, known when the span came
}

// Relation says why two spans are linked.
type Relation string

// The relations, as values of the attribute cln.link.
const (
	// ServedBy leads from a plugin's request to lightningd's work on it.
	ServedBy Relation = "served_by"
	// Encloses leads from a request to those that ran inside it in other
	// processes, where ids could not say so.
	Encloses Relation = "encloses"
)

// Link is a relation to a span of another trace.
type Link struct {
	Relation Relation
	TraceID  trace.TraceID
	SpanID   trace.SpanID
}

// path returns the id of the request that s is, or "".
func (s *Span) path() request.Path {
	if s.Name != detail.SpanRequest {
		return ""
	}
	return request.Path(s.Tag(detail.TagID))
}

// key names a span within its process: under CLN_DEV_ENTROPY_SEED ids are
// counters that collide between processes.
type key struct {
	process *process.Identity
	id      trace.SpanID
}
