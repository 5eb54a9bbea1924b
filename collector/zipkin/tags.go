package zipkin

import (
	"bytes"

	"clntrace/collector/cln"
	"clntrace/collector/text"
)

const (
	tagOpen   = `":"` // between a key and its value
	tagNext   = `", "`
	ellipsis  = "…"
	cutEnding = `"` + beforeTraceID
)

// decodeTags decodes what stands between the braces of tags: "k":"v", "k2":"v2".
// Senders set at most two tags and do not escape them, so values may contain
// quotes. lightningd's second tag is always a short, known one (error, partid), so
// the last place that looks like the start of a tag is one.
func (d *Decoder) decodeTags(b []byte, s *Span) bool {
	cut := false
	if s.Truncated {
		b, cut = trimCutTags(b)
	}
	if len(b) == 0 {
		return true
	}
	if !cut {
		var closed bool
		if b, closed = bytes.CutSuffix(b, []byte(`"`)); !closed {
			return false
		}
	}
	b, opened := bytes.CutPrefix(b, []byte(`"`))
	if !opened {
		return false
	}
	if at := lastTag(b); at >= 0 {
		s.Tags = d.newTags(2)
		return d.decodeTag(&s.Tags[0], b[:at], false) && d.decodeTag(&s.Tags[1], b[at+len(tagNext):], cut)
	}
	s.Tags = d.newTags(1)
	return d.decodeTag(&s.Tags[0], b, cut)
}

// newTags returns n tags from a slab.
func (d *Decoder) newTags(n int) []Tag {
	if len(d.slab) < n {
		d.slab = make([]Tag, tagSlab)
	}
	tags := d.slab[:n:n]
	d.slab = d.slab[n:]
	return tags
}

// lastTag returns where the last `", "key":"` of b begins, or -1.
func lastTag(b []byte) int {
	// Most spans have one tag, whose value can be long, and searching forwards is
	// many times faster than backwards.
	if !bytes.Contains(b, []byte(tagNext)) {
		return -1
	}
	for end := len(b); ; {
		at := bytes.LastIndex(b[:end], []byte(tagNext))
		if at < 0 {
			return -1
		}
		rest := b[at+len(tagNext):]
		if n := keyLen(rest); n > 0 && bytes.HasPrefix(rest[n:], []byte(tagOpen)) {
			return at
		}
		end = at + len(tagNext) - 1
	}
}

// keyLen counts the bytes at the start of b that can belong to a tag's name.
func keyLen(b []byte) int {
	for i, c := range b {
		if c != '_' && c != '.' && c != '-' && (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
			return i
		}
	}
	return len(b)
}

// trimCutTags removes what a cut has left of the syntax behind the last value, and
// reports whether the value itself was cut.
func trimCutTags(b []byte) (tags []byte, cut bool) {
	if at := bytes.LastIndex(b, []byte(cutEnding)); at >= 0 && isHex(b[at+len(cutEnding):]) {
		return b[:at+1], false
	}
	// A second tag, cut before the first byte of its value.
	if at := bytes.LastIndex(b, []byte(`",`)); at >= 0 {
		rest := bytes.TrimPrefix(bytes.TrimPrefix(b[at+2:], []byte(" ")), []byte(`"`))
		if rest = rest[keyLen(rest):]; bytes.HasPrefix([]byte(tagOpen), rest) {
			return b[:at+1], false
		}
	}
	for n := len(cutEnding) - 1; n > 0; n-- {
		if bytes.HasSuffix(b, []byte(cutEnding[:n])) {
			return b[:len(b)-n+1], false
		}
	}
	return b, len(b) > 0
}

func isHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// decodeTag decodes key":"value.
func (d *Decoder) decodeTag(t *Tag, b []byte, cut bool) bool {
	key, value, ok := bytes.Cut(b, []byte(tagOpen))
	if !ok || len(key) == 0 {
		return false
	}
	t.Key = d.texts.intern(key)
	switch {
	case cut:
		t.Value = text.Clean(text.TrimRune(value)) + ellipsis
	case cln.Recurs(t.Key):
		t.Value = d.texts.intern(value)
	default:
		t.Value = text.Clean(value)
	}
	return true
}
