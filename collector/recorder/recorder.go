package recorder

import (
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Recorder assembles spans into traces and keeps those worth looking at. It is safe
// for concurrent use.
type Recorder struct {
	limit int64 // bytes

	mu      sync.Mutex
	byID    map[trace.TraceID]*held // being assembled, or kept and of several spans
	byName  map[spanName]*held      // being assembled, of those that share their id
	waiting queue                   // for their root
	rooted  queue                   // their root has come
	singles singles
	kinds   map[kindKey]*kind
	order   []*kind                                 // all of kinds, and other
	other   *kind                                   // of all kinds for which there is no room; nil: none yet
	bytes   int64                                   // of everything that is held
	waits   int64                                   // bytes, those of traces that are being assembled
	kept    int                                     // traces
	spans   int64                                   // of kept traces
	evicted int64                                   // traces that had to make room, or whose root never came
	period  int64                                   // the current one, see hour
	gone    *simplelru.LRU[trace.TraceID, struct{}] // that were given up before their root came
	noDrop  time.Time                               // until then no kind is old enough to make room

	forms  forms
	spares []*held // of one span each, to be used again
	formed []*held // of one span that had a form, to be used again
	drafts drafts  // of traces of several spans, to be used again
	// Of no meaning between calls:
	attributes []attribute.KeyValue
	words      map[string]word
	picked     []int32
}

// New returns a Recorder that takes at most limit bytes.
func New(limit int64) *Recorder {
	gone, err := simplelru.NewLRU[trace.TraceID, struct{}](maxGone, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Recorder{
		limit: limit, byID: make(map[trace.TraceID]*held), byName: make(map[spanName]*held), kinds: make(map[kindKey]*kind), gone: gone,
		singles: make(singles, manySingles), bytes: singlesSize, forms: newForms(), words: make(map[string]word),
	}
}

// Clear forgets everything: what may be shown has changed, and what is held was
// written under other rules.
func (r *Recorder) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := New(r.limit)
	r.byID, r.byName, r.kinds, r.order, r.other = fresh.byID, fresh.byName, fresh.kinds, nil, nil
	r.waiting, r.rooted, r.forms, r.gone = queue{}, queue{}, fresh.forms, fresh.gone
	r.singles, r.spares, r.formed, r.drafts = fresh.singles, nil, nil, drafts{}
	r.evicted += int64(r.kept)
	r.bytes, r.waits, r.kept, r.spans = fresh.bytes, 0, 0, 0
}

// Retain deletes from ids the traces of which nothing is held.
func (r *Recorder) Retain(ids map[trace.TraceID]bool) {
	for id := range ids {
		ids[id] = false
	}
	see := func(h *held) {
		if _, asked := ids[h.id]; asked {
			ids[h.id] = true
		}
	}
	r.eachKind(func(k *kind) {
		for h := range k.traces() {
			see(h)
		}
	})
	r.mu.Lock()
	for _, h := range r.byID {
		see(h)
	}
	r.mu.Unlock()
	maps.DeleteFunc(ids, func(_ trace.TraceID, held bool) bool { return !held })
}

// Status says how full the recorder is.
func (r *Recorder) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Status{Traces: r.kept, Spans: r.spans, Bytes: r.bytes, LimitBytes: r.limit, Evicted: r.evicted}
}

// Add records s, which came at the time now.
func (r *Recorder) Add(s *Span, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.byID[s.TraceID]
	switch {
	case s.Shared:
		r.addShared(s, now)
	case h != nil && h.state == keptState:
		r.join(h, s, now)
	case h != nil:
		r.assemble(h, s, now)
	case r.gone.Len() > 0 && r.gone.Contains(s.TraceID):
		return
	case s.Parent.IsValid():
		r.assemble(r.begin(s.TraceID, now), s, now)
	default: // children come before their parents, so it has none
		r.single(s, now)
	}
	if r.bytes > r.limit || r.waits > r.limit/waitingShare {
		r.makeRoom(now)
	}
}

// describe returns the attributes of s. They are valid until the next call.
func (r *Recorder) describe(s *Span) []attribute.KeyValue {
	r.attributes = r.attributes[:0]
	if s.Attributes != nil {
		r.attributes = s.Attributes.Append(r.attributes)
	}
	return r.attributes
}

// single keeps a trace of one span, as most are.
func (r *Recorder) single(s *Span, now time.Time) {
	if f := r.formOf(s, now); f != nil {
		r.singleOf(f, s, now)
		return
	}
	h := r.spare(&r.spares)
	h.id = s.TraceID
	h.add(s, r.describe(s))
	h.seen = 1
	h.sum()
	r.keep(h, r.kindOf(h, now), now)
}

// spare returns an empty trace, with memory of one that is gone if there is any.
func (r *Recorder) spare(spares *[]*held) *held {
	last := len(*spares) - 1
	if last < 0 {
		return new(held)
	}
	h := (*spares)[last]
	*spares = (*spares)[:last]
	r.bytes -= h.charged
	*h = held{body: h.body}
	h.reset()
	return h
}

// putSpare keeps the memory of h, which is gone.
func (r *Recorder) putSpare(h *held) {
	spares := &r.spares
	if f := h.form; f != nil {
		h.attrs, h.text, h.form = nil, nil, nil
		r.releaseForm(f)
		spares = &r.formed
	}
	if len(*spares) < maxSpares && h.charged <= maxSpare {
		*spares = append(*spares, h)
		r.bytes += h.charged
	}
}
