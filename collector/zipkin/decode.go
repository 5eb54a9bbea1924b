package zipkin

import (
	"bytes"
	"encoding/hex"
	"strconv"
)

// The fixed parts of a datagram, in the order in which trace_emit of
// common/trace.c writes them.
const (
	beforeID       = `[{"id":"`
	beforeName     = `","name":"`
	beforeTime     = `","timestamp":`
	beforeDuration = `,"duration":`
	beforeService  = `,"localEndpoint":{"serviceName":"`
	afterService   = `"},`
	beforeParent   = `"parentId":"`
	afterParent    = `",`
	beforeTags     = `"tags":{`
	beforeTraceID  = `},"traceId":"`
	end            = `"}]`

	spanIDLen  = 16 // hex digits
	traceIDLen = 32 // hex digits
)

// tagSlab is how many tags are allocated at once. A slab lives as long as any of
// its spans, so it is small enough to be freed with one export batch.
const tagSlab = 256

// Decoder decodes datagrams. It shares strings between spans, so it is not safe
// for concurrent use. The zero Decoder is ready to use.
type Decoder struct {
	texts interner
	slab  []Tag
}

// Decode decodes datagram into s, which does not refer to datagram afterwards. The
// error is one of this package's Err values.
func (d *Decoder) Decode(datagram []byte, s *Span) error {
	*s = Span{}
	if !d.decodeTrace(datagram, s) {
		*s = Span{}
		if err := d.decodeJSON(datagram, s); err != nil {
			return err
		}
	}
	return s.check()
}

// decodeTrace decodes the form of common/trace.c and reports whether datagram has
// it.
func (d *Decoder) decodeTrace(datagram []byte, s *Span) bool {
	b, ok := bytes.CutPrefix(datagram, []byte(beforeID))
	if !ok || len(b) < spanIDLen || !decodeHex(s.ID[:], b[:spanIDLen]) {
		return false
	}
	if b, ok = bytes.CutPrefix(b[spanIDLen:], []byte(beforeName)); !ok {
		return false
	}
	name, b, ok := bytes.Cut(b, []byte(beforeTime))
	if !ok {
		return false
	}
	s.Name = d.texts.intern(name)
	if s.Timestamp, b, ok = cutNumber(b); !ok {
		return false
	}
	if b, ok = bytes.CutPrefix(b, []byte(beforeDuration)); !ok {
		return false
	}
	if s.Duration, b, ok = cutDuration(b); !ok {
		return false
	}
	// From here on even a datagram that was cut is a span.
	body, whole := cutTraceID(b, s)
	if !whole {
		if body, s.Truncated = bytes.CutSuffix(b, []byte{0}); !s.Truncated {
			return false
		}
		s.cut = true
	}
	return d.decodeBody(body, s) || s.Truncated
}

// cutTraceID takes the trace id from the end of b, the only place where it can be.
func cutTraceID(b []byte, s *Span) (body []byte, ok bool) {
	at := len(b) - len(end) - traceIDLen
	if at < len(beforeTraceID) || string(b[at+traceIDLen:]) != end {
		return cutUnclosedTraceID(b, s)
	}
	body, ok = bytes.CutSuffix(b[:at], []byte(beforeTraceID))
	return body, ok && decodeHex(s.TraceID[:], b[at:at+traceIDLen])
}

// cutUnclosedTraceID is for a span of which the cut took no more than the closing
// brackets, so that nothing of it is lost.
func cutUnclosedTraceID(b []byte, s *Span) (body []byte, ok bool) {
	b, ok = bytes.CutSuffix(b, []byte{0})
	if !ok {
		return nil, false
	}
	for kept := len(end) - 1; kept >= 0; kept-- {
		if rest, ok := bytes.CutSuffix(b, []byte(end[:kept])); ok && len(rest) > traceIDLen {
			at := len(rest) - traceIDLen
			body, ok = bytes.CutSuffix(rest[:at], []byte(beforeTraceID))
			if ok && decodeHex(s.TraceID[:], rest[at:]) {
				return body, true
			}
		}
	}
	return nil, false
}

// decodeBody decodes what stands between the duration and the trace id, as far as
// it goes.
func (d *Decoder) decodeBody(b []byte, s *Span) bool {
	b, ok := bytes.CutPrefix(b, []byte(beforeService))
	if !ok {
		return false
	}
	service, b, ok := bytes.Cut(b, []byte(afterService))
	if !ok {
		return false
	}
	s.ServiceName = d.texts.intern(service)
	if rest, found := bytes.CutPrefix(b, []byte(beforeParent)); found {
		if len(rest) < spanIDLen || !decodeHex(s.ParentID[:], rest[:spanIDLen]) || !s.ParentID.IsValid() {
			return false
		}
		if b, ok = bytes.CutPrefix(rest[spanIDLen:], []byte(afterParent)); !ok {
			return false
		}
	}
	if b, ok = bytes.CutPrefix(b, []byte(beforeTags)); !ok {
		return false
	}
	return d.decodeTags(b, s)
}

// decodeHex fills dst from hex digits of either case. If it fails dst is all zeros,
// for half an id would pass for a valid one.
func decodeHex(dst, digits []byte) bool {
	if _, err := hex.Decode(dst, digits); err != nil {
		clear(dst)
		return false
	}
	return true
}

// cutDuration takes the duration at the start of b. lightningd prints the difference of
// two clock readings as a number without a sign: if the clock was set back in between,
// that is above 2^63, and the span counts as one without a duration.
func cutDuration(b []byte) (n int64, rest []byte, ok bool) {
	if n, rest, ok = cutNumber(b); ok {
		return n, rest, true
	}
	digits := b[:len(b)-len(bytes.TrimLeft(b, "0123456789"))]
	u, err := strconv.ParseUint(string(digits), 10, 64)
	return max(int64(u), 0), b[len(digits):], err == nil //nolint:gosec // what overflows is what becomes 0
}

// cutNumber takes the decimal number at the start of b. It refuses numbers that
// might not fit into an int64: no time is that late.
func cutNumber(b []byte) (n int64, rest []byte, ok bool) {
	const maxDigits = 18
	i := 0
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		if i == maxDigits {
			return 0, b, false
		}
		n = n*10 + int64(b[i]-'0')
	}
	return n, b[i:], i > 0
}
