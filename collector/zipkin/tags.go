package zipkin

import (
	"bytes"
	"strings"

	"clntrace/collector/cln"
	"clntrace/collector/text"
)

const (
	tagOpen   = `":"` // between a key and its value
	tagNext   = `", "`
	errorNext = tagNext + cln.TagError + tagOpen
	ellipsis  = "…"
	cutEnding = `"` + beforeTraceID
)

// decodeTags decodes what stands between the braces of tags: "k":"v", "k2":"v2".
// Senders set at most two tags and do not escape them, so values may contain quotes.
func (d *Decoder) decodeTags(b []byte, s *Span) bool {
	if len(b) == 0 {
		return true
	}
	b, opened := bytes.CutPrefix(b, []byte(`"`))
	key, value, ok := bytes.Cut(b, []byte(tagOpen))
	if !opened || !ok || len(key) == 0 {
		return false
	}
	cut := false
	if s.Truncated {
		if value, cut = trimCut(key, value); len(value) == 0 {
			return true
		}
	}
	if !cut {
		if value, ok = bytes.CutSuffix(value, []byte(`"`)); !ok {
			return false
		}
	}
	at := secondTag(key, value, cut)
	if at < 0 {
		s.Tags = d.newTags(1)
		d.setTag(&s.Tags[0], key, value, cut)
		return true
	}
	s.Tags = d.newTags(2)
	d.setTag(&s.Tags[0], key, value[:at], false)
	key, value, _ = bytes.Cut(value[at+len(tagNext):], []byte(tagOpen))
	d.setTag(&s.Tags[1], key, value, cut)
	return true
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

// secondTag returns where `", "key":"` begins in what follows the opening quote of the
// value of the tag first, or -1. A value may contain what looks like a tag, and is
// hidden as a whole or not at all. So after a tag whose value others can choose only what
// lightningd is known to set is one; after one of another plugin, the last place that
// looks like it.
func secondTag(first, value []byte, cut bool) int {
	switch {
	case string(first) == cln.TagID:
		return errorTag(value, cut)
	case cln.StandsAlone(string(first)):
		return -1
	}
	return lastTag(value)
}

// errorTag returns where a value is followed by the tag error, which is true or false,
// or by what a cut has left of it, or -1.
func errorTag(value []byte, cut bool) int {
	const longest = len(errorNext) + len(cln.False)
	from := max(len(value)-longest, 0)
	at := bytes.LastIndex(value[from:], []byte(errorNext))
	if at < 0 {
		return -1
	}
	at += from
	set := string(value[at+len(errorNext):])
	if set == cln.True || set == cln.False || cut && (strings.HasPrefix(cln.True, set) || strings.HasPrefix(cln.False, set)) {
		return at
	}
	return -1
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

// trimCut removes what a cut has left of the syntax behind the last value of b, which
// begins with the value of the tag first, and reports whether that last value itself was
// cut. Unless it was, its closing quote is left.
func trimCut(first, b []byte) (value []byte, cut bool) {
	if at := bytes.LastIndex(b, []byte(cutEnding)); at >= 0 && isHex(b[at+len(cutEnding):]) {
		return b[:at+1], false
	}
	// A second tag, cut before the first byte of its value.
	if at := bytes.LastIndex(b, []byte(`",`)); at >= 0 && beginsSecondTag(first, b[at:]) {
		return b[:at+1], false
	}
	for n := len(cutEnding) - 1; n > 0; n-- {
		if bytes.HasSuffix(b, []byte(cutEnding[:n])) {
			return b[:len(b)-n+1], false
		}
	}
	return b, len(b) > 0
}

// beginsSecondTag reports whether b is the beginning of `", "key":"`, with a key that can
// follow the tag first.
func beginsSecondTag(first, b []byte) bool {
	switch {
	case string(first) == cln.TagID:
		return strings.HasPrefix(errorNext, string(b))
	case cln.StandsAlone(string(first)):
		return false
	}
	rest := bytes.TrimPrefix(bytes.TrimPrefix(b[len(`",`):], []byte(" ")), []byte(`"`))
	return bytes.HasPrefix([]byte(tagOpen), rest[keyLen(rest):])
}

func isHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// setTag fills t, of whose value the end is missing if cut.
func (d *Decoder) setTag(t *Tag, key, value []byte, cut bool) {
	t.Key = d.texts.intern(key)
	switch {
	case cut:
		t.Value = text.Clean(text.TrimRune(value)) + ellipsis
	case cln.Recurs(t.Key):
		t.Value = d.texts.intern(value)
	default:
		t.Value = text.Clean(value)
	}
}
