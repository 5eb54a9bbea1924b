package export

import (
	"math"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// The SDK's exporter makes some twenty objects of each span, most of them for
// attributes, which are then measured and marshalled one by one, although they are
// nearly always the same. So this is done here. The spans of a request share a few
// pieces of memory, and their attributes are in wire form already: as fields that the
// message does not know, which protobuf copies as they are. What a receiver gets is the
// same.

// The numbers of fields in OTLP's messages.
const (
	fieldOfSpan     = 9 // the attributes
	fieldOfResource = 1
	fieldOfLink     = 4

	fieldKey   = 1 // of a KeyValue
	fieldValue = 2

	fieldString = 1 // of an AnyValue
	fieldBool   = 2
	fieldInt    = 3
	fieldDouble = 4
	fieldArray  = 5

	fieldValues = 1 // of an ArrayValue
)

const (
	traceIDLen = len(trace.TraceID{})
	spanIDLen  = len(trace.SpanID{})
	idsLen     = traceIDLen + 2*spanIDLen
)

// unset is the status of all spans that did not fail. It is never changed.
var unset = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_UNSET}

// request is one request and the memory that its spans share.
type request struct {
	batch  []*tracepb.ResourceSpans
	groups map[attribute.Distinct]*tracepb.ScopeSpans
	spans  []tracepb.Span
	used   int // of spans
	ids    []byte
}

// requests are those that nobody needs any more. While no spans come, the garbage
// collector frees them.
var requests sync.Pool

// transform makes a request of spans, which have been filled in.
func transform(spans []sdktrace.ReadOnlySpan) *request {
	r, _ := requests.Get().(*request)
	if r == nil || len(r.spans) < len(spans) {
		r = &request{
			groups: make(map[attribute.Distinct]*tracepb.ScopeSpans),
			spans:  make([]tracepb.Span, len(spans)), ids: make([]byte, 0, len(spans)*idsLen),
		}
	}
	for _, ro := range spans {
		s := ro.(*readOnlySpan) // Submit queues no other type
		group := r.group(s)
		group.Spans = append(group.Spans, r.span(s))
	}
	return r
}

// release makes the memory of r that of another request. Nobody may refer to its batch
// afterwards.
func (r *request) release() {
	clear(r.spans[:r.used]) // they refer to texts
	clear(r.groups)
	r.batch, r.used, r.ids = nil, 0, r.ids[:0]
	requests.Put(r)
}

// group returns where spans of the resource of s are. All spans have the same scope.
func (r *request) group(s *readOnlySpan) *tracepb.ScopeSpans {
	id := s.out.resource.Equivalent()
	group := r.groups[id]
	if group != nil {
		return group
	}
	group = new(tracepb.ScopeSpans)
	if s.out.scope != nil {
		group.Scope = &commonpb.InstrumentationScope{Name: s.out.scope.Name, Version: s.out.scope.Version}
		group.SchemaUrl = s.out.scope.SchemaURL
	}
	r.groups[id] = group
	r.batch = append(r.batch, &tracepb.ResourceSpans{
		Resource: resourceMessage(s.out.resource), ScopeSpans: []*tracepb.ScopeSpans{group}, SchemaUrl: s.out.resource.SchemaURL(),
	})
	return group
}

func resourceMessage(r *resource.Resource) *resourcepb.Resource {
	if r == nil {
		return nil
	}
	m := new(resourcepb.Resource)
	m.ProtoReflect().SetUnknown(appendAttributes(nil, fieldOfResource, r.Attributes()))
	return m
}

// span returns the message of s.
func (r *request) span(s *readOnlySpan) *tracepb.Span {
	m := &r.spans[r.used]
	r.used++
	m.TraceId, m.SpanId = r.id(s.in.TraceID[:]), r.id(s.in.ID[:])
	if parent := s.Parent().SpanID(); parent.IsValid() {
		m.ParentSpanId = r.id(parent[:])
	}
	m.Flags = flags
	m.Name = s.out.name
	m.Kind = kindOf(s.SpanKind())
	m.StartTimeUnixNano, m.EndTimeUnixNano = nanoseconds(s.in.Timestamp), nanoseconds(s.in.Timestamp+s.in.Duration)
	m.Status = unset
	if status := s.Status(); status.Code == codes.Error {
		m.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: status.Description}
	}
	m.Links = linkMessages(s.out.links)
	m.ProtoReflect().SetUnknown(s.out.encoded)
	return m
}

// id copies an id to the memory of the request.
func (r *request) id(id []byte) []byte {
	from := len(r.ids)
	r.ids = append(r.ids, id...)
	return slices.Clip(r.ids[from:])
}

// flags are those of every span and link: it is sampled, and we know that its parent is
// in no other process.
const flags = uint32(trace.FlagsSampled) | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)

// nanoseconds converts µs since the Unix epoch, which package zipkin has checked.
func nanoseconds(us int64) uint64 { return uint64(max(us, 0)) * 1000 }

func kindOf(k trace.SpanKind) tracepb.Span_SpanKind {
	switch k {
	case trace.SpanKindServer:
		return tracepb.Span_SPAN_KIND_SERVER
	case trace.SpanKindClient:
		return tracepb.Span_SPAN_KIND_CLIENT
	}
	return tracepb.Span_SPAN_KIND_INTERNAL
}

func linkMessages(links []sdktrace.Link) (list []*tracepb.Span_Link) {
	for _, l := range links {
		traceID, spanID := l.SpanContext.TraceID(), l.SpanContext.SpanID()
		m := &tracepb.Span_Link{TraceId: traceID[:], SpanId: spanID[:], Flags: flags}
		m.ProtoReflect().SetUnknown(appendAttributes(nil, fieldOfLink, l.Attributes))
		list = append(list, m)
	}
	return list
}

// appendAttributes appends the wire form of attributes to b, each as the field of that
// number.
func appendAttributes(b []byte, field protowire.Number, list []attribute.KeyValue) []byte {
	var memory [256]byte // enough for most
	pair := memory[:0]
	for _, a := range list {
		pair = appendField(pair[:0], fieldKey, valid(string(a.Key)))
		value := len(pair)
		pair = appendValue(pair, a.Value)
		b = protowire.AppendTag(b, field, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(value+sizeOfField(fieldValue, len(pair)-value))) //nolint:gosec // no size is negative
		b = append(b, pair[:value]...)
		b = appendField(b, fieldValue, pair[value:])
	}
	return b
}

// sizeOfField is the size of a field of n bytes, with its tag and length.
func sizeOfField(field protowire.Number, n int) int {
	return protowire.SizeTag(field) + protowire.SizeBytes(n)
}

func appendField[T string | []byte](b []byte, field protowire.Number, content T) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(content)))
	return append(b, content...)
}

// appendValue appends an AnyValue without its tag and length.
func appendValue(b []byte, v attribute.Value) []byte {
	switch v.Type() {
	case attribute.BOOL:
		b = protowire.AppendTag(b, fieldBool, protowire.VarintType)
		return protowire.AppendVarint(b, protowire.EncodeBool(v.AsBool()))
	case attribute.INT64:
		b = protowire.AppendTag(b, fieldInt, protowire.VarintType)
		return protowire.AppendVarint(b, uint64(v.AsInt64())) //nolint:gosec // as protobuf does
	case attribute.FLOAT64:
		b = protowire.AppendTag(b, fieldDouble, protowire.Fixed64Type)
		return protowire.AppendFixed64(b, math.Float64bits(v.AsFloat64()))
	case attribute.STRINGSLICE:
		var array []byte
		for _, s := range v.AsStringSlice() {
			array = appendField(array, fieldValues, appendField(nil, fieldString, valid(s)))
		}
		return appendField(b, fieldArray, array)
	}
	return appendField(b, fieldString, valid(v.String()))
}

// valid makes s UTF-8. A single string that is not would make a whole batch fail.
func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
