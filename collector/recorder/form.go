package recorder

import (
	"slices"
	"time"
	"unsafe"
)

// Form is the same for spans only if their process, name, detail and attributes are
// the same. Most traces have one span, of one of a few hundred forms: what is said in
// words of such a trace is stored once for all that have the form. Without a process it
// is no form.
type Form struct {
	Process, Name Place
	Tags          [2][2]Place // keys and values
}

// Place is where a text is in memory. That tells apart texts that are interned, without
// a look at them.
type Place struct {
	at     *byte
	length int
}

// PlaceOf returns the place of s.
func PlaceOf(s string) Place { return Place{unsafe.StringData(s), len(s)} }

// pinned is how many bytes f keeps in memory.
func (f *Form) pinned() int64 {
	n := f.Process.length + f.Name.length
	for _, tag := range f.Tags {
		n += tag[0].length + tag[1].length
	}
	return int64(n)
}

// form is what is stored for a Form: the one span of body gives texts and attributes to
// those that have the form.
type form struct {
	body
	kind  *kind
	refs  int // traces that have it, and forms.known
	bytes int64
}

// forms are those that are known.
type forms struct {
	known map[Form]*form
	bytes int64
}

func newForms() forms { return forms{known: make(map[Form]*form)} }

// formOf returns what is stored for the form of s. It is nil if s has none, or if
// there is no room for a kind of its own.
func (r *Recorder) formOf(s *Span, now time.Time) *form {
	if s.Form.Process.length == 0 || s.Failed {
		return nil
	}
	if f := r.forms.known[s.Form]; f != nil {
		f.kind.used = now
		return f
	}
	var b body
	b.add(s, r.describe(s))
	k := r.kindOf(&held{body: b}, now)
	if k == r.other {
		return nil
	}
	b.spans, b.attrs, b.text = slices.Clip(b.spans), slices.Clip(b.attrs), slices.Clip(b.text)
	f := &form{body: b, kind: k, refs: 1}
	f.bytes = formSize + f.size() + s.Form.pinned()
	if r.forms.bytes+f.bytes > r.limit/formShare {
		r.forgetAllForms() // only somebody who makes up forms gets here
	}
	r.forms.known[s.Form] = f
	r.forms.bytes += f.bytes
	r.bytes += f.bytes
	k.bytes += f.bytes
	return f
}

// forgetForms forgets those that which chooses. Traces that have them keep them.
func (r *Recorder) forgetForms(which func(*form) bool) {
	for key, f := range r.forms.known {
		if which(f) {
			delete(r.forms.known, key)
			r.forms.bytes -= f.bytes
			r.releaseForm(f)
		}
	}
}

// forgetAllForms also returns the memory of the map, which does not shrink.
func (r *Recorder) forgetAllForms() {
	for _, f := range r.forms.known {
		r.releaseForm(f)
	}
	r.forms = newForms()
}

func (r *Recorder) releaseForm(f *form) {
	if f.refs--; f.refs == 0 {
		r.bytes -= f.bytes
		f.kind.bytes -= f.bytes
	}
}

// Reform forgets what spans that have a Form are like: something else of them may be
// shown now.
func (r *Recorder) Reform() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetAllForms()
}

// singleOf keeps a trace of one span that has the form f.
func (r *Recorder) singleOf(f *form, s *Span, now time.Time) {
	h := r.spare(&r.formed)
	n := f.spans[0]
	n.id, n.start, n.duration, n.busy, n.longest, n.pid = s.ID, s.Start, s.Duration, s.Duration, s.Duration, s.PID
	h.spans, h.attrs, h.text = append(h.spans, n), f.attrs, f.text
	h.id, h.form, h.seen, h.duration = s.TraceID, f, 1, s.Duration
	f.refs++
	r.keep(h, f.kind, now)
}

// own gives h texts of its own, so that they can change.
func (r *Recorder) own(h *held) {
	if f := h.form; f != nil {
		h.attrs, h.text, h.form = slices.Clone(f.attrs), slices.Clone(f.text), nil
		r.releaseForm(f)
	}
}
