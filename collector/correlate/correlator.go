package correlate

import (
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/defect"
	"clntrace/collector/process"
)

const (
	// repairWait is how long a cut span waits for its parent, which nearly always
	// ends only microseconds later.
	repairWait = 2 * time.Second
	// maxRepairs bounds the cut spans that wait.
	maxRepairs = 1000
)

// Options says what a Correlator needs to know.
type Options struct {
	Run         Run          // of lightningd; zero: that of each sender's parent
	KnownParent trace.SpanID // a parent that nobody sends: that of CLN_TRACEPARENT
	// KnownTrace is the trace of KnownParent, to which all spans belong; zero: none.
	KnownTrace trace.TraceID
	Defect     func(error) // called with a panic that a span has caused; may be nil
}

// Correlator finds out how spans are related. It is not safe for concurrent use.
type Correlator struct {
	// Group makes one trace of the spans of a request.
	Group bool
	// Repaired counts the cut spans that got their trace id back.
	Repaired int64

	run         Run
	ids         ids
	knownParent trace.SpanID  // that nobody sends; zero: none
	known       trace.TraceID // of all spans; zero: none
	defect      func(error)   // may be nil
	commands    commands
	inner       inner
	requests    *requests
	lastRun     Run // of a sender whose parent was known

	orphans map[key][]*Span // cut spans, by the parent that they wait for
	waiting []*Span         // the same, oldest first, and some that no longer wait
	until   []time.Time     // until when each of waiting waits
	ready   []*Span
}

// New returns a Correlator.
func New(o Options) *Correlator {
	return &Correlator{
		Group: true, run: o.Run, knownParent: o.KnownParent, known: o.KnownTrace, defect: o.Defect, commands: newCommands(),
		inner: newInner(), requests: newRequests(), orphans: make(map[key][]*Span),
	}
}

// Correlate adds spans, in the order of arrival, and returns all that are ready.
func (c *Correlator) Correlate(spans []*Span, now time.Time) (ready []*Span) {
	c.ready = slices.Grow(c.ready, len(spans))
	for _, s := range spans {
		c.Add(s, now)
	}
	return c.Ready()
}

// Add correlates s. Unless its trace id is missing, it is Ready at once.
func (c *Correlator) Add(s *Span, now time.Time) {
	if s.TraceID.IsValid() {
		c.finish(s, now)
		return
	}
	switch {
	case s.Relative.IsValid():
		c.repair(s, s.Relative, now)
	case c.known.IsValid():
		c.repair(s, c.known, now)
	case s.ParentID.IsValid() && s.ParentID != c.knownParent && len(c.waiting) < maxRepairs:
		parent := key{s.Process, s.ParentID}
		c.orphans[parent] = append(c.orphans[parent], s)
		c.waiting, c.until = append(c.waiting, s), append(c.until, now.Add(repairWait))
	default:
		c.orphan(s, now)
	}
}

// Ready returns and removes the spans that wait for nothing any more, including
// those that the Correlator has added.
func (c *Correlator) Ready() []*Span {
	ready := c.ready
	c.ready = nil
	return ready
}

// Expire ends the waits that are over at the time now.
func (c *Correlator) Expire(now time.Time) {
	for len(c.waiting) > 0 && !now.Before(c.until[0]) {
		s := c.waiting[0]
		c.waiting, c.until = c.waiting[1:], c.until[1:]
		if !s.TraceID.IsValid() {
			c.orphan(s, now)
		}
	}
	c.commands.expire(now.Add(-linkWindow))
	c.inner.expire(now.Add(-linkWindow))
	c.ready = append(c.ready, c.requests.expire(now)...)
}

// Flush ends all waits.
func (c *Correlator) Flush(now time.Time) {
	c.Expire(now.Add(repairWait + quiet))
}

// repair gives s the trace id of its relatives.
func (c *Correlator) repair(s *Span, id trace.TraceID, now time.Time) {
	s.TraceID, s.Truncated = id, false
	c.Repaired++
	c.finish(s, now)
}

// orphan makes s the root of a trace: its own trace id will never be known.
func (c *Correlator) orphan(s *Span, now time.Time) {
	parent := key{s.Process, s.ParentID}
	if rest := slices.DeleteFunc(c.orphans[parent], func(o *Span) bool { return o == s }); len(rest) > 0 {
		c.orphans[parent] = rest
	} else {
		delete(c.orphans, parent)
	}
	s.TraceID = c.ids.orphanTraceID(s)
	c.finish(s, now)
}

// finish relates s, whose trace id is known, and repairs the children that have
// waited for it.
func (c *Correlator) finish(s *Span, now time.Time) {
	if len(c.orphans) > 0 {
		self := key{s.Process, s.ID}
		children := c.orphans[self]
		delete(c.orphans, self)
		for _, child := range children {
			c.repair(child, s.TraceID, now)
		}
	}
	c.relate(s, now)
	c.ready = append(c.ready, s)
}

// relate groups and links s. If that panics, s is still passed on.
func (c *Correlator) relate(s *Span, now time.Time) {
	defer defect.Catch(c.defect)
	path := s.path()
	if path != "" {
		s.Request = clip(path.FirstComponent()) // clipped as in the root of the request
	}
	grouped := c.Group && path != "" && !s.ParentID.IsValid() && !s.WasCut() && c.group(s, path, now)
	c.link(s, path, grouped, now)
}

// group gives s the ids that follow from its path. It reports whether the path is
// long enough for that.
func (c *Correlator) group(s *Span, path cln.Path, now time.Time) bool {
	root := path.Root()
	if root == "" {
		return false
	}
	run := c.runOf(s.Process)
	s.SentTraceID, s.SentID = s.TraceID, s.ID
	s.TraceID, s.ID = c.ids.traceID(run, root), c.ids.spanID(run, path)
	rootID := s.ID
	if path != root {
		rootID = c.ids.spanID(run, root)
		s.ParentID = rootID
		if outer := path.Parent(root); outer != root {
			s.ParentID = c.ids.spanID(run, outer)
		}
	}
	if evicted := c.requests.add(s, root, rootID, now); evicted != nil {
		c.ready = append(c.ready, evicted)
	}
	return true
}

// runOf returns the run of lightningd that started the sender. If the sender had
// exited before we looked, that is the run of the sender before.
func (c *Correlator) runOf(sender *process.Identity) Run {
	run := c.run.of(sender)
	if run == (Run{}) {
		return c.lastRun
	}
	c.lastRun = run
	return run
}
