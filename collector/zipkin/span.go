package zipkin

import (
	"errors"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
)

// Span is one completed span, as its sender described it. All its text is valid
// UTF-8 without control characters.
type Span struct {
	TraceID     trace.TraceID // zero when it was cut off, see Truncated
	ID          trace.SpanID
	ParentID    trace.SpanID // zero for a root
	Name        string
	ServiceName string // cln.Daemon, whichever process sent it
	Timestamp   int64  // start, µs since the Unix epoch
	Duration    int64  // µs
	Tags        []Tag
	Truncated   bool // the sender cut it, and the trace id is lost
	cut         bool // the sender cut it; the trace id may be known
}

// Tag is a key and its value.
type Tag struct{ Key, Value string }

// Start is when the span began.
func (s *Span) Start() time.Time { return time.UnixMicro(s.Timestamp) }

// End is when the span ended.
func (s *Span) End() time.Time { return time.UnixMicro(s.Timestamp + s.Duration) }

// Tag returns the value of the tag named key, or "".
func (s *Span) Tag(key string) string {
	for i := range s.Tags {
		if s.Tags[i].Key == key {
			return s.Tags[i].Value
		}
	}
	return ""
}

// Failed reports whether the sender marked the span as an error.
func (s *Span) Failed() bool { return s.Tag(cln.TagError) == cln.True }

// Reasons why a datagram is not a span.
var (
	ErrForm     = errors.New("not a Zipkin v2 array of one span")
	ErrID       = errors.New("a trace, span or parent id is missing, not hexadecimal, or all zeros")
	ErrTime     = errors.New("the timestamp or duration is missing or out of range")
	ErrOversize = errors.New("larger than any span of lightningd")
)

// Spans outside of these bounds are refused. Before 1971, the sender's clock was
// not set; in April 2262, OTLP's nanoseconds exceed an int64.
var (
	minTimestamp = time.Date(1971, time.January, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	maxTimestamp = time.Date(2262, time.January, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

// check validates what both forms have in common.
func (s *Span) check() error {
	if !s.ID.IsValid() || (!s.TraceID.IsValid() && !s.Truncated) {
		return ErrID
	}
	if s.Timestamp < minTimestamp || s.Duration < 0 || s.Duration > maxTimestamp-s.Timestamp {
		return ErrTime
	}
	return nil
}

// WasCut reports whether the sender cut the span, even if its trace id has become
// known since. The last tag of such a span may be incomplete.
func (s *Span) WasCut() bool { return s.cut }
