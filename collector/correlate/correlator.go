package correlate

import (
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/defect"
	"clntrace/collector/process"
	"clntrace/collector/request"
)

const (
	// repairWait is how long a span that was cut waits for its parent. Nearly
	// always the parent ends microseconds after it.
	repairWait = 2 * time.Second
	// maxRepairs bounds the spans that wait.
	maxRepairs = 1000
)

// Options says what a Correlator needs to know.
type Options struct {
	Run         Run          // of lightningd; zero: that of each sender's parent
	KnownParent trace.SpanID // a parent that nobody sends
	// KnownTrace is the trace that all spans are of: that of KnownParent. Zero:
	// each has its own.
	KnownTrace trace.TraceID
	Defect     func(error) // is told of a defect that a span has met; nil: nobody is
}

// Correlator relates spans. It is for one goroutine.
type Correlator struct {
	// Group makes one trace of the spans of a request.
	Group bool
	// Repaired counts the spans that got their trace id back.
	Repaired int64

	run      Run
	ids      ids
	kin      *kin
	known    trace.TraceID // of all spans; zero: none
	defect   func(error)   // may be nil
	commands commands
	inner    inner
	requests *requests
	lastRun  Run // of a sender whose parent was known

	orphans map[key][]*Span // cut spans, by the parent they wait for
	waiting []*Span         // the same, and some that wait no longer, oldest first
	until   []time.Time
	ready   []*Span
}

// New returns a Correlator.
func New(o Options) *Correlator {
	return &Correlator{
		Group: true, run: o.Run, kin: newKin(o.KnownParent), known: o.KnownTrace, defect: o.Defect, commands: newCommands(),
		inner: newInner(), requests: newRequests(), orphans: make(map[key][]*Span),
	}
}

// Observe notes s among its relatives. It is called once for every span, in
// the order of arrival, whether or not Add follows.
func (c *Correlator) Observe(s *Span, now time.Time) { s.relative = c.kin.observe(s, now) }

// Missing returns how many spans have waited for their parent in vain since it
// was last called.
func (c *Correlator) Missing(now time.Time) int64 { return c.kin.expire(now) }

// Add takes s, which is Ready at once unless its trace id is missing.
func (c *Correlator) Add(s *Span, now time.Time) {
	if s.TraceID.IsValid() {
		c.finish(s, now)
		return
	}
	switch {
	case s.relative.IsValid():
		c.repair(s, s.relative, now)
	case c.known.IsValid():
		c.repair(s, c.known, now)
	case s.ParentID.IsValid() && s.ParentID != c.kin.known && len(c.waiting) < maxRepairs:
		parent := key{s.Process, s.ParentID}
		c.orphans[parent] = append(c.orphans[parent], s)
		c.waiting, c.until = append(c.waiting, s), append(c.until, now.Add(repairWait))
	default:
		c.orphan(s, now)
	}
}

// Ready returns the spans whose relations are as complete as they will be,
// those that nobody sent included, and forgets them.
func (c *Correlator) Ready() []*Span {
	ready := c.ready
	c.ready = nil
	return ready
}

// Expire finishes what has waited long enough at the time now.
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

// Flush finishes everything.
func (c *Correlator) Flush(now time.Time) {
	c.Expire(now.Add(repairWait + quiet))
}

// repair gives s the trace id of its relatives.
func (c *Correlator) repair(s *Span, id trace.TraceID, now time.Time) {
	s.TraceID, s.Truncated = id, false
	c.Repaired++
	c.finish(s, now)
}

// orphan makes s a root: its own trace will not be known any more.
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

// finish relates s, whose trace id is known, and lets go whom it shows theirs.
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

// relate finds out what s belongs to. A span that meets a defect goes its way
// all the same.
func (c *Correlator) relate(s *Span, now time.Time) {
	defer func() {
		if found := defect.Of(recover()); found != nil && c.defect != nil {
			c.defect(found)
		}
	}()
	path := s.path()
	if path != "" {
		s.Request = clip(path.FirstComponent()) // as long as in the root
	}
	grouped := c.Group && path != "" && !s.ParentID.IsValid() && !s.WasCut() && c.group(s, path, now)
	c.link(s, path, grouped, now)
}

// group gives s the ids that follow from its path, and tells whether the path
// has what that takes.
func (c *Correlator) group(s *Span, path request.Path, now time.Time) bool {
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

// runOf returns the run of lightningd that started the sender. One who had
// gone before we looked belongs to the run that the others do.
func (c *Correlator) runOf(sender *process.Identity) Run {
	run := c.run.of(sender)
	if run == (Run{}) {
		return c.lastRun
	}
	c.lastRun = run
	return run
}
