package recorder

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"
)

const (
	// quietTime is how long after its root and its last span a trace is decided on. Of
	// what precedes the recorder, spans that were cut wait longest, 2 s, for their
	// relatives.
	quietTime = 2 * time.Second
	// rootWait is how long a trace may be quiet before its root comes. A root comes
	// when it ends, so this is how long its last part may take without a child: as
	// long as an open request is waited for.
	rootWait = 10 * time.Minute
	// maxSpans is how many spans of a trace are kept, runs of like statements counted
	// as one. The largest trace of lightningd, its start, has 557.
	maxSpans = 500
	// maxAssembled is how many spans of a trace are held before the shortest go: more
	// than maxSpans, so that they need not be sorted for each span.
	maxAssembled = 2 * maxSpans
	// fewSpans is up to how many spans a trace stays as it was assembled: what could be
	// saved by storing it anew is less than that costs.
	fewSpans = 4
)

// state is how far a trace has come.
type state uint8

const (
	waitingState state = iota // its root has not come
	settledState              // its root has come
	keptState                 // it has been decided on
)

// held is a trace, while it is assembled and while it is kept.
type held struct {
	body
	id    trace.TraceID
	state state
	asked bool // it has been looked for among the traces of one span
	// compacted says that there is no spare room in body, and no text twice.
	compacted bool
	// shared says that others have the same id. names are those of its spans and their
	// parents, while it is assembled.
	shared bool
	names  []spanName

	// While it is assembled.
	next, previous *held
	last           time.Time // when its last span came
	charged        int64     // bytes, as counted in the sums of the Recorder

	seen    int32 // spans, with those left out
	leftOut int32 // spans that were too many

	// Once it is kept.
	kind      *kind
	served    []*held // commands that served its requests, and are kept with it
	form      *form   // that gives it texts and attributes; nil: they are its own
	decided   time.Time
	indexed   bool // byID has it
	failed    bool
	refs      int8 // lists that have it
	labels    labels
	errors    int32 // spans that failed
	root      int32 // index of its root
	duration  int64 // µs
	errorType string
	failedIn  string // the request inside that failed, where nothing says why h did
	payment   string // hash, hexadecimal
}

// queue is a list of traces, those that have been quiet longest first.
type queue struct{ first, final *held }

func (q *queue) push(h *held) {
	h.previous, h.next = q.final, nil
	if q.final != nil {
		q.final.next = h
	} else {
		q.first = h
	}
	q.final = h
}

func (q *queue) remove(h *held) {
	if h.previous != nil {
		h.previous.next = h.next
	} else {
		q.first = h.next
	}
	if h.next != nil {
		h.next.previous = h.previous
	} else {
		q.final = h.previous
	}
	h.next, h.previous = nil, nil
}

func (r *Recorder) queueOf(h *held) *queue {
	if h.state == settledState {
		return &r.rooted
	}
	return &r.waiting
}

// charge brings the sums up to date with the size of h.
func (r *Recorder) charge(h *held) {
	size := h.bytes()
	grown := size - h.charged
	h.charged = size
	r.bytes += grown
	if h.state == keptState {
		h.kind.bytes += grown
	} else {
		r.waits += grown
	}
}

// begin begins a trace.
func (r *Recorder) begin(id trace.TraceID, now time.Time) *held {
	h := &held{id: id, last: now, indexed: true, body: r.draft(fewSpans)}
	r.byID[id] = h
	r.waiting.push(h)
	return h
}

// assemble adds s to a trace that is not decided on.
func (r *Recorder) assemble(h *held, s *Span, now time.Time) {
	r.store(h, s)
	q := r.queueOf(h)
	if !s.Parent.IsValid() {
		h.state = settledState
	}
	h.last = now
	if to := r.queueOf(h); q.final != h || to != q {
		q.remove(h)
		to.push(h)
	}
	if s.Added && !s.Parent.IsValid() {
		r.decide(h, now)
		return
	}
	r.charge(h)
}

// join adds a late span to a trace that is kept.
func (r *Recorder) join(h *held, s *Span, now time.Time) {
	before := len(h.spans)
	r.store(h, s)
	r.spans += int64(len(h.spans) - before)
	if s.Failed {
		h.errors++
	}
	h.last = now
	r.charge(h)
}

// store adds s to the spans of h, and leaves the shortest out if there are too many,
// or if they take too much.
func (r *Recorder) store(h *held, s *Span) {
	h.seen++
	r.enlarge(h)
	h.add(s, r.describe(s))
	switch {
	case len(h.spans) >= maxAssembled:
		r.shorten(h, maxSpans)
	case h.size() > r.limit/waitingShare/traceShare:
		r.shorten(h, len(h.spans)/2)
	}
}

// shorten keeps the most longest spans of h, those that failed before others. A span
// is at least as long as those inside it, so what is left out leaves no gap above
// what is kept.
func (r *Recorder) shorten(h *held, most int) {
	keep := r.all(h)
	slices.SortStableFunc(keep, func(a, b int32) int { return h.rank(a, b) })
	r.compact(h, keep[:min(len(keep), max(most, 1))])
}

// rank orders the spans a and b of h, the one to keep first.
func (h *held) rank(a, b int32) int {
	x, y := &h.spans[a], &h.spans[b]
	weight := func(s *stored) int {
		switch {
		case !s.parent.IsValid():
			return 2
		case s.failed:
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(weight(y), weight(x)), cmp.Compare(y.duration, x.duration))
}

// all returns the indexes of the spans of h. They are valid until the next call.
func (r *Recorder) all(h *held) []int32 {
	r.picked = r.picked[:0]
	for i := range h.spans {
		r.picked = append(r.picked, int32(i)) //nolint:gosec // at most maxAssembled
	}
	return r.picked
}

// compact stores the spans of h at the indexes keep anew, without any spare room,
// and counts the others.
func (r *Recorder) compact(h *held, keep []int32) {
	slices.Sort(keep) // in the order of arrival
	var b body
	b.spans = make([]stored, 0, len(keep))
	b.take(&h.body, keep, r.words)
	kept := int32(0)
	for i := range b.spans {
		kept += b.spans[i].count
	}
	h.body, h.leftOut, h.compacted = b, h.seen-kept, true
	h.find()
}

// find finds the root of h: the one that was added, or else the longest.
func (h *held) find() {
	h.root = -1
	for i := range h.spans {
		n := &h.spans[i]
		if n.parent.IsValid() {
			continue
		}
		if h.root < 0 || n.added && !h.spans[h.root].added || n.added == h.spans[h.root].added && n.duration > h.spans[h.root].duration {
			h.root = int32(i) //nolint:gosec // at most maxAssembled
		}
	}
	h.root = max(h.root, 0)
}

// sum finds out what is said of h as a whole.
func (h *held) sum() {
	h.find()
	root := &h.spans[h.root]
	h.duration, h.failed = root.duration, root.failed
	last := int64(math.MinInt64)
	for i := range h.spans {
		n := &h.spans[i]
		if n.failed {
			h.errors++
		}
		if n.failed || n.attrsLen > 0 {
			h.note(n, &last)
		}
	}
	if reason := h.textOf(root, keyErrorType); root.failed && len(reason) > 0 {
		h.errorType = string(reason)
	}
	switch {
	case !h.failed:
		h.errorType = ""
	case h.errorType == "":
		h.failedIn = h.string(h.lastFailed())
	}
}

// lastFailed is what the last request that failed right below the root was about: there
// the reason is, if nothing says more.
func (h *held) lastFailed() (detail word) {
	end := int64(math.MinInt64)
	for i := range h.spans {
		n := &h.spans[i]
		if n.failed && n.parent == h.spans[h.root].id && n.start+n.duration >= end && n.detail != 0 {
			detail, end = n.detail, n.start+n.duration
		}
	}
	return detail
}

// note takes from n what is said of the whole trace: the payment, and the reason of the
// failure that came last, for then the others were tried again. last is when that was.
func (h *held) note(n *stored, last *int64) {
	for _, a := range h.attributes(n) {
		key := h.get(a.key)
		switch {
		case n.failed && n.start+n.duration > *last && string(key) == keyErrorType:
			h.errorType, _ = h.value(a).(string)
			*last = n.start + n.duration
		case h.payment == "" && (string(key) == keyPaymentHash || string(key) == keyPaymentTag):
			if hash, ok := h.value(a).(string); ok && isHash(hash) {
				h.payment = hash
			}
		}
	}
}

// isHash reports whether s is a hash and not, for instance, redacted.
func isHash(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

// decide ends the assembly of h, and keeps it.
func (r *Recorder) decide(h *held, now time.Time) {
	r.queueOf(h).remove(h)
	r.forgetNames(h)
	r.bytes -= h.charged
	r.waits -= h.charged
	h.charged = 0
	if len(h.spans) > maxSpans {
		draft := h.body
		r.shorten(h, maxSpans)
		r.putDraft(draft)
	}
	h.sum()
	r.claim(h)
	r.keep(h, r.kindOf(h, now), now)
}

// storeAnew stores h anew if that saves something. With most traces it is never done, for
// it waits until h is no longer one of the newest of its kind, and then most are gone.
func (r *Recorder) storeAnew(h *held) {
	if h.compacted || len(h.spans) <= fewSpans {
		return
	}
	draft := h.body
	r.compact(h, r.all(h))
	r.charge(h)
	r.putDraft(draft)
}

// forget gives up a trace that is being assembled. What follows of it is not recorded
// either: it would look like the whole.
func (r *Recorder) forget(h *held) {
	r.queueOf(h).remove(h)
	r.bytes -= h.charged
	r.waits -= h.charged
	r.evicted++
	if h.shared {
		for _, n := range h.awaited() {
			r.giveUp(n.key())
		}
		r.forgetNames(h)
		return
	}
	delete(r.byID, h.id)
	r.giveUp(h.id)
}

// giveUp remembers that what follows of id is not to be recorded.
func (r *Recorder) giveUp(id trace.TraceID) {
	if !r.gone.Contains(id) && r.gone.Len() < maxGone {
		r.bytes += goneSize
	}
	r.gone.Add(id, struct{}{})
}

// Tick ends the waits that are over at the time now. Call it about once a second.
func (r *Recorder) Tick(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for h := r.rooted.first; h != nil && now.Sub(h.last) >= quietTime; h = r.rooted.first {
		r.decide(h, now)
	}
	if late := r.unasked(now); len(late) > 0 {
		r.adopt(late, now)
	}
	for h := r.waiting.first; h != nil && now.Sub(h.last) >= rootWait; h = r.waiting.first {
		r.forget(h)
	}
	r.turn(now)
	r.expireServing(now)
	if r.bytes > r.limit {
		r.makeRoom(now)
	}
}

// Flush decides on the traces whose root has come, without a wait for what may follow.
func (r *Recorder) Flush(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.rooted.first != nil {
		r.decide(r.rooted.first, now)
	}
	if r.bytes > r.limit {
		r.makeRoom(now)
	}
}

// singles counts the kept traces that have no entry in byID by the last bits of their
// ids.
type singles []uint16 // a count cannot be higher than that of all traces that are kept

// manySingles is several times the number of traces that a node keeps.
const manySingles = 1 << 14

func (s singles) of(id trace.TraceID) *uint16 {
	return &s[binary.BigEndian.Uint16(id[14:])%manySingles]
}

// adopt lets spans that came after the root of their trace join it. A trace of one
// span, as most are, is decided on at once and has no entry in byID, which would cost
// more than all the rest; so it is looked for here, if there can be one.
func (r *Recorder) adopt(late []*held, now time.Time) {
	late = slices.DeleteFunc(late, func(h *held) bool { return *r.singles.of(h.id) == 0 })
	if len(late) == 0 {
		return
	}
	slices.SortFunc(late, func(a, b *held) int { return compareIDs(a, b.id) })
	for _, k := range r.order {
		for h := range k.traces() {
			if h.indexed {
				continue
			}
			if at, found := slices.BinarySearchFunc(late, h.id, compareIDs); found {
				r.unite(h, late[at], now)
				late = slices.Delete(late, at, at+1)
			}
		}
	}
}

func compareIDs(h *held, id trace.TraceID) int { return bytes.Compare(h.id[:], id[:]) }

// unasked returns the traces without a root, quiet for a while, that have not been
// looked for among the traces of one span. It marks them.
func (r *Recorder) unasked(now time.Time) (late []*held) {
	for h := r.waiting.first; h != nil && now.Sub(h.last) >= quietTime; h = h.next {
		if !h.asked && !h.shared {
			late = append(late, h)
		}
		h.asked = true
	}
	return late
}

// unite moves the spans of late into h, which is kept.
func (r *Recorder) unite(h, late *held, now time.Time) {
	r.waiting.remove(late)
	r.bytes -= late.charged
	r.waits -= late.charged
	r.own(h)
	before := len(h.spans)
	keep := r.all(late)
	h.take(&late.body, keep, r.words)
	for i := range late.spans {
		if late.spans[i].failed {
			h.errors++
		}
	}
	h.seen += late.seen
	r.byID[h.id], h.indexed = h, true
	*r.singles.of(h.id)--
	h.last = now
	if len(h.spans) > maxSpans {
		r.shorten(h, maxSpans)
	}
	r.spans += int64(len(h.spans) - before)
	r.charge(h)
}
