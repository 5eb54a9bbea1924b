package correlate

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/payments"
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
	// Request is the first component of the request's id: what a user or timer
	// asked for. Empty for spans that are not requests.
	Request string
	Links   []Link

	// Relative is the trace of a relative that came before (package parents); zero:
	// none. A cut span gets it.
	Relative trace.TraceID

	// Wait and Work are known if the span is Paired: the time from the start of this
	// request of a plugin until lightningd began to work on it, and how long that took.
	// The rest is the answer's way back, and for methods that lightningd does not answer
	// at once the time until it could.
	Wait, Work time.Duration

	// Payment is what lightningd's notifications say of the payment, the part of one, or
	// the forward that this span is about. nil: nothing.
	Payment *payments.Facts
	// Height is that of the block that an extend_tip has added; 0: not known.
	Height uint32
	// Paired says that lightningd's work on this request of a plugin is known. It stands
	// here with the other small fields, because together they take 8 bytes.
	Paired bool
	// Incomplete says that the root was added although something of the request was
	// known to be open.
	Incomplete bool
	// Synthetic says that the span was added here, as the root of a request.
	Synthetic bool
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
	// Continues leads from the root of what a request did after its own root had been
	// added to that root.
	Continues Relation = "continues"
	// ByRequest leads from a payment to the root of the request that made it, and
	// ForPayment back.
	ByRequest  Relation = "request"
	ForPayment Relation = "payment"
)

// Whole is a request as a whole, as an operation of the process that serves it.
type Whole struct {
	Process  *process.Identity
	Method   string // empty if it cannot be read
	Duration time.Duration
	Failed   bool
	TraceID  trace.TraceID
}

// Link is a relation to a span of another trace.
type Link struct {
	Relation Relation
	TraceID  trace.TraceID
	SpanID   trace.SpanID
}

// IsRoot reports whether s is the root that was added to a request.
func (s *Span) IsRoot() bool {
	return s.Synthetic && (s.Payment == nil || s.Payment.Kind == payments.KindRoot)
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
