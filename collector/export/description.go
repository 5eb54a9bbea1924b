package export

import (
	"slices"
	"unsafe"

	"go.opentelemetry.io/otel/attribute"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/policy"
	"clntrace/collector/zipkin"
)

// maxDescribed bounds what is remembered of operations, in bytes. A node has some 400,
// which take a third of it.
const maxDescribed = 1 << 20

// maxTags is how many tags lightningd gives a span at most.
const maxTags = 2

// operation is what the description of a span follows from, its relations aside.
type operation struct {
	name, detail string
	tags         [maxTags]zipkin.Tag
}

// description is the same for all spans of an operation.
type description struct {
	name       string
	attributes []attribute.KeyValue
	encoded    []byte // the attributes in wire form
}

// descriptions describes spans, and remembers how it has described operations: a few
// hundred recur for ever. It is not safe for concurrent use.
type descriptions struct {
	database attribute.KeyValue
	policy   *policy.Policy // by which everything that is known was made
	known    map[operation]*description
	bytes    int // of known

	// Memory that the spans of one request share. That of the list is used again for the
	// next one; what is encoded may wait longer.
	list    []attribute.KeyValue
	encoded []byte
	usual   int // size of what is encoded, bytes
}

func newDescriptions(database attribute.KeyValue) *descriptions {
	return &descriptions{database: database, known: make(map[operation]*description)}
}

// begin begins a request, of which p says what may be shown.
func (d *descriptions) begin(p *policy.Policy) {
	if p != d.policy {
		d.policy = p
		d.forget()
	}
	d.encoded = make([]byte, 0, d.usual+d.usual/8) // requests are alike
}

// end lets go of what the request that has begun refers to.
func (d *descriptions) end() {
	clear(d.list)
	d.usual = len(d.encoded)
	d.list, d.encoded = d.list[:0], nil
}

func (d *descriptions) forget() {
	clear(d.known)
	d.bytes = 0
}

// describe fills in the name, attributes and links of s. What is derived from a
// redacted tag is redacted too.
func (d *descriptions) describe(s *correlate.Span, out *outgoing) {
	from, about := len(d.list), d.of(s)
	if about != nil {
		out.name = about.name
		d.list = append(d.list, about.attributes...)
	} else {
		out.name, d.list = d.appendAbout(d.list, s)
	}
	relations := len(d.list)
	d.list = appendRelations(d.list, s, d.policy)
	d.list, out.reason = d.policy.AppendFacts(d.list, s.Payment)
	out.attributes, out.links = slices.Clip(d.list[from:]), links(s.Links)
	switch before := len(d.encoded); {
	case about == nil:
		d.encoded = appendAttributes(d.encoded, fieldOfSpan, out.attributes)
		out.encoded = slices.Clip(d.encoded[before:])
	case len(d.list) == relations:
		out.encoded = about.encoded
	default:
		d.encoded = append(d.encoded, about.encoded...)
		d.encoded = appendAttributes(d.encoded, fieldOfSpan, d.list[relations:])
		out.encoded = slices.Clip(d.encoded[before:])
	}
}

// appendAbout appends what s is about, and returns the name that it follows from.
func (d *descriptions) appendAbout(list []attribute.KeyValue, s *correlate.Span) (name string, all []attribute.KeyValue) {
	list = appendSubject(list, s, d.policy)
	if cln.IsQuery(s.Name) && d.database.Valid() {
		list = append(list, d.database)
	}
	if name = d.policy.Name(s); name != s.Name && !s.Synthetic {
		list = append(list, keySpanName.String(s.Name))
	}
	return name, list
}

// of returns the description of the operation of s. It is nil if s tells of something
// that does not recur.
func (d *descriptions) of(s *correlate.Span) *description {
	if !recurs(s) {
		return nil
	}
	o := operation{name: s.Name, detail: s.Detail}
	copy(o.tags[:], s.Tags)
	about := d.known[o]
	if about == nil {
		about = d.remember(o, s)
	}
	return about
}

// recurs reports whether s tells only of what recurs, its relations aside.
func recurs(s *correlate.Span) bool {
	if s.Synthetic || s.WasCut() || len(s.Tags) > maxTags {
		return false
	}
	for i := range s.Tags {
		if !cln.Recurs(s.Tags[i].Key) {
			return false
		}
	}
	return true
}

// Recurs reports whether AppendAttributes appends the same for all spans that have the
// name and the tags of s (two at most), and no relations either.
func Recurs(s *correlate.Span) bool {
	return s.Request == "" && !s.Paired && s.Height == 0 && s.Payment == nil && !s.Incomplete && !s.SentTraceID.IsValid() &&
		!s.SentID.IsValid() && !s.Truncated && recurs(s)
}

// remember describes the operation of s.
func (d *descriptions) remember(o operation, s *correlate.Span) *description {
	about := new(description)
	about.name, about.attributes = d.appendAbout(nil, s)
	about.encoded = appendAttributes(nil, fieldOfSpan, about.attributes)
	size := descriptionSize + cap(about.attributes)*attributeSize + 2*cap(about.encoded) // the texts of the operation are no longer than that
	if d.bytes+size > maxDescribed {
		d.forget() // only a hostile sender gets here
	}
	d.known[o] = about
	d.bytes += size
	return about
}

const (
	descriptionSize = int(unsafe.Sizeof(description{}) + unsafe.Sizeof(operation{}))
	attributeSize   = int(unsafe.Sizeof(attribute.KeyValue{}))
)
