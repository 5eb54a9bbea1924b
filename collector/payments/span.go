package payments

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
)

// Kind is what a span that nobody sends is about; its name.
type Kind string

// The kinds; those of a part and of a request's root are of spans that are there
// anyway.
const (
	KindRoot        Kind = ""
	KindPart        Kind = "payment part"
	KindPayment     Kind = "payment"
	KindForward     Kind = "forward"
	KindAccept      Kind = "forward accept"     // until it was offered on
	KindDownstream  Kind = "forward downstream" // until the next peer resolved it
	KindInvoicePaid Kind = "invoice paid"
)

// Kinds are those that have a name.
var Kinds = []Kind{KindPart, KindPayment, KindForward, KindAccept, KindDownstream, KindInvoicePaid}

// Programs that payments and forwards are seen from.
const (
	programNode  = "lightningd"
	programSends = "cln-xpay"
)

// Span is a span that nobody sends.
type Span struct {
	Facts
	Program  string // whose span it is
	TraceID  trace.TraceID
	ID       trace.SpanID
	ParentID trace.SpanID // zero: a root
	Start    time.Time
	End      time.Time
	// Incomplete says that it had not ended when clntrace did, or that its end will
	// never be known.
	Incomplete bool
	// Request is the request that made the payment, whose root is to be linked.
	Request RequestID

	hash cln.Hash
}

// RequestID identifies a request: the trace id that grouping gives it. Zero: none.
type RequestID = trace.TraceID

// Ref is the trace and span id of a span.
type Ref struct {
	TraceID trace.TraceID
	SpanID  trace.SpanID
}

// ids computes ids. The salt is a random value of this run.
type ids struct{ salt [32]byte }

// traceID is the trace of a payment: the same on all nodes with All, and one that
// nobody can compute in other modes.
func (i *ids) traceID(h cln.Hash, m Mode) (id trace.TraceID) {
	text := append([]byte("clntrace payment\x00"), h[:]...)
	if m != All || h == (cln.Hash{}) {
		text = append(text, i.salt[:]...)
	}
	sum := sha256.Sum256(text)
	copy(id[:], sum[:])
	return id
}

// spanID is the id of the span of that kind about what key names. It takes in the
// salt, for several nodes have spans in one trace.
func (i *ids) spanID(kind Kind, key []byte) (id trace.SpanID) {
	text := append([]byte("clntrace payment span\x00"+kind), 0)
	text = append(append(text, i.salt[:]...), key...)
	sum := sha256.Sum256(text)
	copy(id[:], sum[:])
	return id
}

// numbers is a key of ids.spanID.
func numbers(list ...uint64) (key []byte) {
	for _, n := range list {
		key = binary.BigEndian.AppendUint64(key, n)
	}
	return key
}
