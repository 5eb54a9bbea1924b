package recorder

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"unsafe"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/text"
)

const (
	// maxName bounds each name. Those of lightningd have at most 60 bytes, while a
	// datagram has room for 2,000.
	maxName = 200 // bytes
	// maxValue bounds each value of an attribute; a datagram of lightningd is smaller.
	maxValue = 4096 // bytes
	// maxAttributes bounds those of one span: some 16 tags and what clntrace adds.
	maxAttributes = 40
)

// body holds the spans of a trace without pointers, so that the garbage collector
// has nothing to follow in it, however many there are.
type body struct {
	spans []stored
	attrs []storedAttribute
	text  []byte
}

// stored is a span, or a run of like database statements.
type stored struct {
	id, parent            trace.SpanID
	start, duration       int64 // µs; of a run, from its first start to its last end
	busy, longest         int64 // µs; the sum of a run, and the longest of it
	process, name, detail word
	attrs                 uint32 // index of the first
	count                 int32  // spans: more than 1 for a run
	pid                   int32
	attrsLen              uint8
	failed, added         bool
}

// storedAttribute is an attribute; its value is a number, or the position of a text.
type storedAttribute struct {
	key   word
	kind  uint8 // an attribute.Type
	value uint64
}

// word is the position of a text in a body: its length and its bytes. 0 is no text.
type word uint32

// between separates the texts of a list.
const between = "\x1f"

func (b *body) reset() {
	b.spans, b.attrs, b.text = b.spans[:0], b.attrs[:0], b.text[:0]
}

// add stores s, as a part of the run of like statements before it if it belongs to
// one.
func (b *body) add(s *Span, attributes []attribute.KeyValue) {
	last := len(b.spans) - 1
	if last >= 0 && b.extend(&b.spans[last], s) {
		return
	}
	b.reserve(s, attributes)
	if len(b.spans) == 0 {
		b.text = append(b.text, 0) // position 0 is no text
	}
	n := stored{
		id: s.ID, parent: s.Parent, start: s.Start, duration: s.Duration, busy: s.Duration, longest: s.Duration,
		count: 1, pid: s.PID, failed: s.Failed, added: s.Added, attrs: uint32(len(b.attrs)), //nolint:gosec // bounded
	}
	var like stored
	if last >= 0 {
		like = b.spans[last]
	}
	n.process = b.put(s.Process, maxName, like.process)
	n.name = b.put(s.Name, maxName, like.name)
	n.detail = b.put(s.Detail, maxName, like.detail)
	for i := range attributes[:min(len(attributes), maxAttributes)] {
		b.putAttribute(&attributes[i], n.detail)
	}
	n.attrsLen = uint8(min(len(attributes), maxAttributes)) //nolint:gosec // at most maxAttributes
	b.spans = append(b.spans, n)
}

// reserve makes room for s at once, and not for one text after the other.
func (b *body) reserve(s *Span, attributes []attribute.KeyValue) {
	const length = 2 // bytes, of the length before each text
	need := 1 + 3*length + len(s.Process) + len(s.Name) + len(s.Detail)
	for i := range attributes {
		need += 2*length + len(attributes[i].Key)
		if attributes[i].Value.Type() == attribute.STRING {
			need += len(attributes[i].Value.AsString())
		}
	}
	b.text = slices.Grow(b.text, need)
	b.attrs = slices.Grow(b.attrs, len(attributes))
}

// extend makes s a part of the run that ends with n, if both are alike. Statements
// of one kind come in runs: a start reads the same tables dozens of times.
func (b *body) extend(n *stored, s *Span) bool {
	if n.parent != s.Parent || n.failed || s.Failed || !s.Parent.IsValid() || !cln.IsQuery(s.Name) ||
		string(b.get(n.detail)) != s.Detail || string(b.get(n.name)) != s.Name ||
		n.pid != s.PID || string(b.get(n.process)) != s.Process {
		return false
	}
	end := max(n.start+n.duration, s.Start+s.Duration)
	n.start = min(n.start, s.Start)
	n.duration = end - n.start
	n.busy += s.Duration
	n.longest = max(n.longest, s.Duration)
	n.count++
	return true
}

// put stores text, unless it is the one at like.
func (b *body) put(s string, most int, like word) word {
	if s == "" {
		return 0
	}
	s = text.Clip(s, most)
	if like != 0 && string(b.get(like)) == s {
		return like
	}
	at := word(len(b.text)) //nolint:gosec // bounded
	b.text = binary.AppendUvarint(b.text, uint64(len(s)))
	b.text = append(b.text, s...)
	return at
}

// get returns the text at w. It is valid until the body is reset.
func (b *body) get(w word) []byte {
	if w == 0 {
		return nil
	}
	n, size := binary.Uvarint(b.text[w:])
	at := int(w) + size
	return b.text[at : at+int(n)] //nolint:gosec // written by put
}

func (b *body) string(w word) string { return string(b.get(w)) }

// putAttribute stores kv. like is the text that its value may be: that of an attribute
// often is the detail.
func (b *body) putAttribute(kv *attribute.KeyValue, like word) {
	kind := kv.Value.Type()
	a := storedAttribute{key: b.put(string(kv.Key), maxName, 0), kind: uint8(kind)} //nolint:gosec // a dozen
	switch kind {
	case attribute.BOOL:
		if kv.Value.AsBool() {
			a.value = 1
		}
	case attribute.INT64:
		a.value = uint64(kv.Value.AsInt64()) //nolint:gosec // and back
	case attribute.FLOAT64:
		a.value = math.Float64bits(kv.Value.AsFloat64())
	case attribute.STRINGSLICE:
		a.value = uint64(b.put(strings.Join(kv.Value.AsStringSlice(), between), maxValue, 0))
	case attribute.STRING:
		a.value = uint64(b.put(kv.Value.AsString(), maxValue, like))
	default:
		a.kind = uint8(attribute.STRING)
		a.value = uint64(b.put(kv.Value.String(), maxValue, 0))
	}
	b.attrs = append(b.attrs, a)
}

// attributes returns those of n.
func (b *body) attributes(n *stored) []storedAttribute {
	return b.attrs[n.attrs : n.attrs+uint32(n.attrsLen)]
}

// value returns the value of a: a bool, int64, float64, string or []string.
func (b *body) value(a storedAttribute) any {
	switch attribute.Type(a.kind) {
	case attribute.BOOL:
		return a.value != 0
	case attribute.INT64:
		return int64(a.value) //nolint:gosec // as stored
	case attribute.FLOAT64:
		return math.Float64frombits(a.value)
	case attribute.STRINGSLICE:
		if a.value == 0 {
			return []string{}
		}
		return strings.Split(b.string(word(a.value)), between) //nolint:gosec // as stored
	}
	return b.string(word(a.value)) //nolint:gosec // as stored
}

// textOf returns the text of the attribute key of n, or nil.
func (b *body) textOf(n *stored, key string) []byte {
	for _, a := range b.attributes(n) {
		if attribute.Type(a.kind) == attribute.STRING && string(b.get(a.key)) == key {
			return b.get(word(a.value)) //nolint:gosec // as stored
		}
	}
	return nil
}

// take moves the spans at the indexes keep of from into b, and stores each text once.
// words is used for the work, and left empty.
func (b *body) take(from *body, keep []int32, words map[string]word) {
	b.text = append(b.text, 0)
	move := func(w word) word {
		if w == 0 {
			return 0
		}
		old := from.get(w)
		if known, ok := words[alias(old)]; ok {
			return known
		}
		key := alias(old) // from does not change
		at := b.put(key, maxValue, 0)
		words[key] = at
		return at
	}
	for _, i := range keep {
		n := from.spans[i]
		list := from.attributes(&n)
		n.attrs = uint32(len(b.attrs)) //nolint:gosec // bounded
		n.process, n.name, n.detail = move(n.process), move(n.name), move(n.detail)
		for _, a := range list {
			a.key = move(a.key)
			if t := attribute.Type(a.kind); t == attribute.STRING || t == attribute.STRINGSLICE {
				a.value = uint64(move(word(a.value))) //nolint:gosec // as stored
			}
			b.attrs = append(b.attrs, a)
		}
		b.spans = append(b.spans, n)
	}
	clear(words)
}

// size is how many bytes b takes in memory, besides its own header.
func (b *body) size() int64 {
	return int64(cap(b.spans))*int64(unsafe.Sizeof(stored{})) +
		int64(cap(b.attrs))*int64(unsafe.Sizeof(storedAttribute{})) + int64(cap(b.text))
}

// alias returns b as a string that shares its memory, to ask a map. It must not be
// kept.
func alias(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}
