package recorder

import (
	"cmp"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// SortKey says which traces come first.
type SortKey string

// The keys of listtraces.
const (
	SortSlowest SortKey = "slowest" // the longest first
	SortRecent  SortKey = "recent"  // by the end, the newest first
	SortFailed  SortKey = "failed"  // only those that failed, the newest first
	SortOpen    SortKey = "open"    // what is running now, the oldest first
)

// SortKeys are all keys, the default first.
var SortKeys = []SortKey{SortSlowest, SortRecent, SortFailed, SortOpen}

// Query says which traces are wanted.
type Query struct {
	// ID, if set, is the beginning of the id of one trace, or of the hash of its
	// payment. The rest does not count then.
	ID    string
	Sort  SortKey
	Match string // a part of process, name, detail, error or payment hash, in any case
	Limit int    // traces at most
}

// Open tells what is running now. Spans do not: they come when they have ended.
type Open interface {
	// OpenTraces returns what is open at the time now, in any order, with the Status
	// StatusOpen and the duration until now.
	OpenTraces(now time.Time) []Summary
}

// Answer answers q. The error is ErrID or ErrNone.
func (r *Recorder) Answer(q Query, open Open, now time.Time) (Answer, error) {
	if q.ID == "" {
		return r.List(q, open, now), nil
	}
	found, several, err := r.Find(q.ID, now)
	if errors.Is(err, ErrNone) && open != nil {
		found, several, err = r.findOpen(q.ID, open.OpenTraces(now), now)
	}
	switch {
	case err != nil:
		return nil, err
	case found != nil:
		if found.Status == StatusOpen && open != nil {
			found.addOpen(open.OpenTraces(now))
		}
		return Single{found}, nil
	}
	return List{Traces: several, Recorder: r.Status(), Query: q}, nil
}

// findOpen is Find for what is open, by the hash of its payment: that hash comes into the
// trace itself only with its root.
func (r *Recorder) findOpen(prefix string, open []Summary, now time.Time) (*Trace, []Summary, error) {
	prefix = strings.ToLower(prefix)
	open = slices.DeleteFunc(open, func(s Summary) bool {
		return !strings.HasPrefix(s.PaymentHash, prefix) && !strings.HasPrefix(s.TraceID, prefix)
	})
	if len(open) == 0 {
		return nil, nil, ErrNone
	}
	if id := open[0].TraceID; id != "" && !slices.ContainsFunc(open, func(s Summary) bool { return s.TraceID != id }) {
		if t, several, err := r.Find(id, now); err == nil {
			return t, several, nil
		}
	}
	slices.SortStableFunc(open, SortOpen.compare)
	return nil, open, nil
}

// List answers q. open tells what is open; nil: nobody knows.
func (r *Recorder) List(q Query, open Open, now time.Time) List {
	var all []Summary
	switch {
	case q.Sort != SortOpen:
		all = r.summaries(q, now)
	case open != nil:
		all = slices.DeleteFunc(open.OpenTraces(now), func(s Summary) bool { return !s.matches(q.Match) })
	}
	slices.SortStableFunc(all, q.Sort.compare)
	shown := all[:min(max(q.Limit, 0), len(all))]
	if len(shown) == 0 {
		shown = []Summary{} // in JSON a list, too
	}
	return List{Traces: shown, Recorder: r.Status(), More: len(all) - len(shown), Query: q}
}

// compare orders traces by k.
func (k SortKey) compare(a, b Summary) int {
	newest := b.end().Compare(a.end())
	switch k {
	case SortOpen:
		return a.StartedAt.Compare(b.StartedAt)
	case SortSlowest, "":
		return cmp.Or(cmp.Compare(b.DurationMS, a.DurationMS), newest)
	}
	return newest
}

func (s *Summary) end() time.Time {
	return s.StartedAt.Add(millis(s.DurationMS))
}

// summaries returns the traces that q asks for, in any order. It goes through the
// kinds one by one, because spans are waiting to be added.
func (r *Recorder) summaries(q Query, now time.Time) []Summary {
	var all []Summary
	r.eachKind(func(k *kind) {
		k.label(now)
		for h := range k.traces() {
			if h.labels&isVisited != 0 || h.labels&isListed == 0 || q.Sort == SortFailed && !h.failed {
				continue
			}
			h.labels |= isVisited
			if s := h.summary(); s.matches(q.Match) {
				all = append(all, s)
			}
		}
	})
	return all
}

// eachKind calls look with each kind, while it does not change. Spans can be added
// between two calls.
func (r *Recorder) eachKind(look func(*kind)) {
	r.mu.Lock()
	order := slices.Clone(r.order)
	r.mu.Unlock()
	for _, k := range order {
		r.mu.Lock()
		look(k)
		r.mu.Unlock()
	}
}

// summary describes h. The strings are copies.
func (h *held) summary() Summary {
	root := &h.spans[h.root]
	s := Summary{
		TraceID: h.id.String(), StartedAt: time.UnixMicro(root.start).UTC(), DurationMS: float64(h.duration) / 1000,
		Process: h.string(root.process), Span: h.string(root.name), Detail: h.string(root.detail),
		Status: StatusOK, ErrorType: strings.Clone(h.errorType), FailedIn: strings.Clone(h.failedIn), Spans: int(h.seen), Errors: int(h.errors),
		PaymentHash: strings.Clone(h.payment),
	}
	if h.failed {
		s.Status = StatusFailed
	}
	if h.shared {
		s.SpanID = root.id.String()
	}
	for _, l := range []struct {
		label labels
		text  string
	}{{isSlowest | isEver, KeptSlowest}, {isFailed, KeptFailed}, {isRecent, KeptRecent}} {
		if h.labels&l.label != 0 {
			s.Kept = append(s.Kept, l.text)
		}
	}
	return s
}

func (s *Summary) matches(part string) bool {
	if part == "" {
		return true
	}
	part = strings.ToLower(part)
	shown := s.Process + " " + s.what() // in a list
	return slices.ContainsFunc([]string{shown, s.Process, s.Span, s.Detail, s.ErrorType, s.PaymentHash, s.WaitsFor}, func(field string) bool {
		return strings.Contains(strings.ToLower(field), part)
	})
}

// Reasons why there is no trace for an id.
var (
	ErrID = errors.New("an id is the beginning of a trace id or of a payment hash, in hexadecimal digits")
	// ErrNone means that the recorder does not hold the trace, or not any more.
	ErrNone = errors.New("no trace that is kept has an id or a payment hash that begins so")
)

// IsPrefix reports whether s can be the beginning of a trace id or of a payment hash.
func IsPrefix(s string) bool {
	const longest = 64 // digits of a payment hash
	return len(s) <= longest && isHex(strings.ToLower(s))
}

// Find returns the only trace whose id, or whose payment hash, begins with prefix.
// If several do, it returns nil and the list of them. The error is ErrID or ErrNone.
func (r *Recorder) Find(prefix string, now time.Time) (*Trace, []Summary, error) {
	if !IsPrefix(prefix) {
		return nil, nil, ErrID
	}
	prefix = strings.ToLower(prefix)
	var found []Summary
	r.eachKind(func(k *kind) {
		k.label(now)
		for h := range k.traces() {
			if h.labels&isVisited == 0 && h.labels&isListed != 0 &&
				(strings.HasPrefix(h.id.String(), prefix) || strings.HasPrefix(h.payment, prefix) || h.isBelow(prefix)) {
				h.labels |= isVisited
				found = append(found, h.summary())
			}
		}
	})
	slices.SortStableFunc(found, SortSlowest.compare)
	if len(found) == 0 {
		found = r.unfinished(prefix, now)
	}
	if len(found) == 0 {
		return nil, nil, ErrNone
	}
	for _, other := range found[1:] {
		if other.TraceID != found[0].TraceID || other.SpanID != found[0].SpanID {
			return nil, found, nil
		}
	}
	if t := r.trace(found[0]); t != nil {
		return t, nil, nil
	}
	return nil, nil, ErrNone // it was evicted in between
}

// unfinished returns the traces whose id begins with prefix and that are still being
// assembled: what is running now.
func (r *Recorder) unfinished(prefix string, now time.Time) (found []Summary) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, h := range r.byID {
		if h.state == keptState || !strings.HasPrefix(id.String(), prefix) {
			continue
		}
		first := slices.MinFunc(h.spans, func(a, b stored) int { return cmp.Compare(a.start, b.start) })
		began := time.UnixMicro(first.start).UTC()
		found = append(found, Summary{
			TraceID: id.String(), StartedAt: began, DurationMS: float64(now.Sub(began).Microseconds()) / 1000,
			Process: h.string(first.process), Status: StatusOpen,
		})
	}
	return found
}

// trace returns everything that is held under the id of s.
func (r *Recorder) trace(s Summary) *Trace {
	var id trace.TraceID
	_, _ = hex.Decode(id[:], []byte(s.TraceID)) // it was made from one
	t := &Trace{Summary: s}
	t.Summary.Spans, t.Errors = 0, 0
	begin := s.StartedAt.UnixMicro()
	serving := make(map[string][]TraceSpan) // by the id of their trace
	r.eachKind(func(k *kind) {
		for h := range k.traces() {
			h.labels &^= isVisited
		}
		for h := range k.traces() {
			if h.id == id && h.labels&isVisited == 0 && h.isBelow(s.SpanID) {
				h.labels |= isVisited
				t.add(h, begin)
				for _, by := range h.served {
					serving[by.id.String()] = by.appendSpans(nil, begin)
				}
			}
		}
	})
	r.mu.Lock()
	if h := r.byID[id]; h != nil && h.state != keptState && s.SpanID == "" {
		t.add(h, begin)
	}
	r.mu.Unlock()
	if len(t.Spans) == 0 {
		return nil
	}
	t.sort()
	if over := len(t.Spans) - maxSpans; over > 0 { // traces of one span that share an id
		t.SpansLeftOut += over
		t.Spans = t.Spans[:maxSpans]
	}
	r.findServing(t, serving, begin)
	t.addServing(serving)
	return t
}

// sort orders the spans by their start.
func (t *Trace) sort() {
	slices.SortStableFunc(t.Spans, func(a, b TraceSpan) int {
		// A parent before a child that began in the same microsecond.
		return cmp.Or(cmp.Compare(a.OffsetUS, b.OffsetUS), cmp.Compare(b.DurationUS, a.DurationUS))
	})
}

// findServing adds to serving the traces of the work that served the requests of t and
// that are kept for another reason, or wait for their request.
func (r *Recorder) findServing(t *Trace, serving map[string][]TraceSpan, begin int64) {
	wanted := make(map[string]bool)
	for i := range t.Spans {
		if id := t.Spans[i].text(keyServedBy); id != "" && serving[id] == nil {
			wanted[id] = true
		}
	}
	if len(wanted) == 0 {
		return
	}
	see := func(h *held) {
		if id := h.id.String(); wanted[id] {
			serving[id] = h.appendSpans(nil, begin)
			delete(wanted, id) // it can be in several lists
		}
	}
	r.eachKind(func(k *kind) {
		for h := range k.traces() {
			see(h)
		}
		for _, h := range k.serving {
			see(h)
		}
	})
}

// addServing adds below the requests of t the traces of the work that served them, by
// their ids: they are traces of their own where the request lasted long.
func (t *Trace) addServing(serving map[string][]TraceSpan) {
	for i := range t.Spans {
		request := &t.Spans[i]
		id := request.text(keyServedBy)
		if serving[id] == nil || len(t.Spans) >= 2*maxSpans {
			continue
		}
		request.servedBelow = true
		below := request.SpanID
		for _, s := range serving[id] {
			s.TraceID, s.serves = id, s.ParentID == ""
			s.ParentID = cmp.Or(s.ParentID, below)
			t.Spans = append(t.Spans, s)
		}
		delete(serving, id)
	}
	t.sort()
}

// add adds the spans of h.
func (t *Trace) add(h *held, begin int64) {
	t.Spans = h.appendSpans(t.Spans, begin)
	t.Summary.Spans += int(h.seen)
	t.SpansLeftOut += int(h.leftOut)
	for i := range h.spans {
		if h.spans[i].failed {
			t.Errors++
		}
	}
}

func (h *held) appendSpans(list []TraceSpan, begin int64) []TraceSpan {
	for i := range h.spans {
		n := &h.spans[i]
		s := TraceSpan{
			SpanID: n.id.String(), Process: h.string(n.process), PID: n.pid, Span: h.string(n.name), Detail: h.string(n.detail),
			OffsetUS: n.start - begin, DurationUS: n.duration, Status: StatusOK,
		}
		if n.parent.IsValid() {
			s.ParentID = n.parent.String()
		}
		if n.failed {
			s.Status = StatusFailed
		}
		if n.count > 1 {
			s.Count, s.BusyUS, s.LongestUS = int(n.count), n.busy, n.longest
		}
		for _, a := range h.attributes(n) {
			if s.Attributes == nil {
				s.Attributes = make(map[string]any, n.attrsLen)
			}
			s.Attributes[h.string(a.key)] = h.value(a)
		}
		s.Read()
		list = append(list, s)
	}
	return list
}

// Read fills in what the attributes say: the detail, if there is none, the type of the
// error, and the waits.
func (s *TraceSpan) Read() {
	if name := s.text(keySpanName); name != "" {
		s.Span = name
	}
	if s.Detail == "" {
		s.Detail = cmp.Or(s.text(keySummary), s.text(keyMethod))
	}
	if s.Status == StatusFailed {
		s.ErrorType = s.text(keyErrorType)
	}
	s.WaitUS, s.WorkUS = s.micros(keyWait), s.micros(keyWork)
}

// text returns the attribute key if it is a text.
func (s *TraceSpan) text(key string) string {
	text, _ := s.Attributes[key].(string)
	return text
}

// micros returns the attribute key, seconds, in µs; nil if there is none.
func (s *TraceSpan) micros(key string) *int64 {
	seconds, ok := s.Attributes[key].(float64)
	if !ok {
		return nil
	}
	us := int64(seconds*1e6 + 0.5)
	return &us
}

// Slowest is the slowest span of an operation.
type Slowest struct {
	TraceID   string
	StartedAt time.Time // of the span
}

// Operation is what spans of the same kind have in common. Its texts have at most 200
// bytes each.
type Operation struct{ Process, Span, Detail string }

// Slowest returns, for each operation, the slowest span that is held.
func (r *Recorder) Slowest(now time.Time) map[Operation]Slowest {
	type slowest struct {
		id              trace.TraceID
		start, duration int64
	}
	found := make(map[Operation]*slowest)
	r.eachKind(func(k *kind) {
		k.label(now)
		for h := range k.traces() {
			if h.labels&isVisited != 0 || h.labels&isListed == 0 {
				continue
			}
			h.labels |= isVisited
			for i := range h.spans {
				n := &h.spans[i]
				key := Operation{alias(h.get(n.process)), alias(h.get(n.name)), alias(h.get(n.detail))}
				known := found[key]
				if known == nil {
					known = new(slowest)
					found[Operation{strings.Clone(key.Process), strings.Clone(key.Span), strings.Clone(key.Detail)}] = known
				}
				if !known.id.IsValid() || n.longest > known.duration {
					*known = slowest{h.id, n.start, n.longest}
				}
			}
		}
	})
	all := make(map[Operation]Slowest, len(found))
	for key, s := range found {
		all[key] = Slowest{s.id.String(), time.UnixMicro(s.start).UTC()}
	}
	return all
}
