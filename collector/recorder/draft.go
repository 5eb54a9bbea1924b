package recorder

import "math/bits"

// drafts are bodies that wait to be used again, by the room that they have for spans:
// at least 2^class. Without them, most of what a span costs would be to collect what
// the one before has left.
type drafts struct {
	class [maxClass + 1][]body
	bytes int64
}

// maxClass is that of maxAssembled spans.
const maxClass = 10

// draft returns an empty body with room for so many spans.
func (r *Recorder) draft(spans int) body {
	class := bits.Len(uint(spans - 1)) //nolint:gosec // it is positive
	if class > maxClass || len(r.drafts.class[class]) == 0 {
		most := 1 << class
		return body{spans: make([]stored, 0, most), attrs: make([]storedAttribute, 0, 2*most), text: make([]byte, 0, draftText*most)}
	}
	waiting := &r.drafts.class[class]
	b := (*waiting)[len(*waiting)-1]
	*waiting = (*waiting)[:len(*waiting)-1]
	r.bytes -= b.size()
	r.drafts.bytes -= b.size()
	b.reset()
	return b
}

// putDraft keeps the memory of b, whose spans are stored elsewhere or gone.
func (r *Recorder) putDraft(b body) {
	size, class := b.size(), bits.Len(uint(cap(b.spans)))-1 //nolint:gosec // it is positive
	if class >= 0 && class <= maxClass && size <= maxDraft && r.drafts.bytes+size <= r.limit/draftShare {
		r.drafts.class[class] = append(r.drafts.class[class], b)
		r.bytes += size
		r.drafts.bytes += size
	}
}

// enlarge makes room for a further span of h, and as much again.
func (r *Recorder) enlarge(h *held) {
	if len(h.spans) < cap(h.spans) || len(h.spans) == 0 {
		return
	}
	b, old := r.draft(2*len(h.spans)), h.body
	b.spans, b.attrs, b.text = append(b.spans, old.spans...), append(b.attrs, old.attrs...), append(b.text, old.text...)
	h.body, h.compacted = b, false
	r.putDraft(old)
}
