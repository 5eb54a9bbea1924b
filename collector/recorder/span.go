package recorder

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Span is a finished span. Its text is what may be shown: what is redacted must be
// redacted in it already. The recorder copies what it keeps.
type Span struct {
	TraceID trace.TraceID
	ID      trace.SpanID
	Parent  trace.SpanID // zero: it is a root
	Process string
	PID     int32  // 0: unknown
	Name    string // as sent
	Detail  string // the RPC method or the SQL summary

	Start, Duration int64 // µs, the start since the Unix epoch
	Failed          bool
	// Shared says that all spans have the same trace id (CLN_TRACEPARENT), so that it
	// does not tell what belongs together: that is what is below one root.
	Shared bool
	// Added says that the span is a root that clntrace added when the request had
	// been quiet for a while: nothing more is to be expected.
	Added bool
	// Form is what s looks like, if many look so.
	Form Form
	// Attributes may be nil.
	Attributes Attributes
}

// Attributes are asked for the attributes of a span at most once, and only while it
// is being added.
type Attributes interface {
	// Append appends the attributes, as they may be shown.
	Append([]attribute.KeyValue) []attribute.KeyValue
}

// KeyLink begins the attributes that are the ids of traces to which a span has a link.
// The relation follows.
const KeyLink = "cln.link."

// Attributes that the recorder reads.
const (
	keySpanName      = "cln.span.name" // as sent, where the name is another
	keySummary       = "db.query.summary"
	keyMethod        = "rpc.method"
	keyErrorType     = "error.type"
	keyWait          = "cln.request.wait" // s
	keyWork          = "cln.request.work" // s
	keyPaymentHash   = "cln.payment.hash"
	keyPaymentTag    = "payment_hash" // a tag of lightningd's own
	keyPart          = "cln.payment.part"
	keyHops          = "cln.payment.hops"
	keyRoute         = "cln.payment.route"
	keyFailedHop     = "cln.payment.failed_hop"
	keyFailedChannel = "cln.payment.failed_channel"
	keyAmount        = "cln.payment.amount_msat"
	keyFee           = "cln.payment.fee_msat"
	keyInChannel     = "cln.forward.in_channel"
	keyOutChannel    = "cln.forward.out_channel"
	keyInAmount      = "cln.forward.in_msat"
	keyServedBy      = KeyLink + "served_by"
	keyByRequest     = KeyLink + "request"
	keyContinues     = KeyLink + "continues"
)
