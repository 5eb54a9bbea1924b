package correlate

import (
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
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
	// searchEvery is how often at most a plugin is looked for among all processes, which
	// takes milliseconds: a sender can invent any number of names.
	searchEvery = 50 * time.Millisecond
)

// Options says what a Correlator needs to know.
type Options struct {
	Run Run // of lightningd; zero: that of each sender's parent
	// RunIsCertain says that Run is lightningd's, and not that of a program between it
	// and us.
	RunIsCertain bool
	KnownParent  trace.SpanID // a parent that nobody sends: that of CLN_TRACEPARENT
	// KnownTrace is the trace of KnownParent, to which all spans belong; zero: none.
	KnownTrace trace.TraceID
	Defect     func(error) // called with a panic that a span has caused; may be nil
	// Origin tells the processes that we see from others with the same pids: see
	// process.Origin.
	Origin []byte
	// Unknown returns what stands for the run of lightningd where that is not known: a
	// random text, the same for as long as what waits for its export does. It is asked
	// once, and only if there is such a run. May be nil.
	Unknown func() []byte
	// Child finds a process by the pid of its parent and its name; nil if there is none.
	// It is asked for plugins of which nothing has come yet. May be nil.
	Child func(parent int32, name string) *process.Identity
	// Parent finds the process that started another one; zero: it is not known. It is
	// asked for the parents of plugins that are no node. May be nil.
	Parent func(Run) Run
	// Sampled reports whether a trace is exported. A link leads only to one that is. Nil:
	// all are.
	Sampled func(trace.TraceID) bool
	// Payments knows which requests are open and have failed; nil: spans alone tell.
	Payments Payments
	// Related is called for each span in the order of arrival, when its ids are known
	// and before it can be Ready. May be nil.
	Related func(s *Span, now time.Time)
}

// Correlator finds out how spans are related. It is not safe for concurrent use.
type Correlator struct {
	// Group makes one trace of the spans of a request.
	Group bool
	// First is the number of the first request that lightningd sent to us. What it
	// numbered lower began before we did, and may have a root already. 0: unknown.
	First uint64
	// Repaired counts the cut spans that got their trace id back.
	Repaired int64

	ids         *ids
	knownParent trace.SpanID  // that nobody sends; zero: none
	known       trace.TraceID // of all spans; zero: none
	defect      func(error)   // may be nil
	nodes       *nodes
	nesting     nesting
	pairings    []pairing // oldest first
	pairedAt    time.Time // when they were looked at
	inner       inner
	requests    *requests
	payments    Payments                                          // may be nil
	related     func(s *Span, now time.Time)                      // may be nil
	child       func(parent int32, name string) *process.Identity // may be nil
	sampled     func(trace.TraceID) bool                          // may be nil
	learned     map[string]struct{}                               // methods that wait, beside those of waits
	searched    time.Time                                         // when child was last asked
	paid        *simplelru.LRU[treeKey, payment]
	whole       []Whole

	orphans map[key][]*Span // cut spans, by the parent that they wait for
	waiting []*Span         // the same, oldest first, and some that no longer wait
	until   []time.Time     // until when each of waiting waits
	ready   []*Span
}

// New returns a Correlator.
func New(o Options) *Correlator {
	paid, err := simplelru.NewLRU(maxRequests, func(_ treeKey, p payment) { p.open(-1) })
	if err != nil {
		panic(err) // only for a size below 1
	}
	ids := newIDs(o.Origin, o.Unknown)
	return &Correlator{
		Group: true, ids: ids, nodes: newNodes(o, ids), child: o.Child, knownParent: o.KnownParent, known: o.KnownTrace, defect: o.Defect,
		inner: newInner(), nesting: newNesting(), requests: newRequests(), payments: o.Payments, related: o.Related, paid: paid, sampled: o.Sampled,
		learned: make(map[string]struct{}), orphans: make(map[key][]*Span),
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
	if len(c.pairings) > 0 && now.Sub(c.pairedAt) >= pairEvery {
		c.pairAll(now)
	}
	c.expireNesting(now)
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
	c.pairAll(now)
	c.expireNesting(now)
	for _, n := range c.nodes.known.Values() {
		n.commands.expire(now)
	}
	c.inner.expire(now.Add(-linkWindow))
	c.expireRequests(now)
}

// Flush ends all waits. The roots of requests of which something is still open are
// marked Incomplete.
func (c *Correlator) Flush(now time.Time) {
	c.Expire(now.Add(repairWait + quiet))
	for c.requests.open() > 0 {
		c.closeOldest(now)
	}
}

// Whole returns the requests whose roots have been added since the last call.
func (c *Correlator) Whole() []Whole {
	whole := c.whole
	c.whole = nil
	return whole
}

// earlier returns the number of lightningd's last request that began before we did.
func (c *Correlator) earlier(n *node) uint64 {
	if c.First == 0 || n.run != c.nodes.own {
		return 0
	}
	return c.First - 1
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
	waits := c.relate(s, now)
	if c.related != nil {
		c.related(s, now)
	}
	if !waits {
		c.deliver(s)
	}
}

// deliver makes s Ready.
func (c *Correlator) deliver(s *Span) {
	if c.sampled != nil && len(s.Links) > 0 {
		s.Links = slices.DeleteFunc(s.Links, func(l Link) bool { return !c.sampled(l.TraceID) })
	}
	c.ready = append(c.ready, s)
}

// relate groups, links and pairs s, and reports whether s has to wait. If that
// panics, s is still passed on.
func (c *Correlator) relate(s *Span, now time.Time) (waits bool) {
	defer defect.Catch(c.defect)
	switch s.Name {
	case cln.SpanCommand:
		n := c.nodes.sender(s.Process, now)
		by := n.commands.add(s, now)
		c.suspect(n, by)
		if s.ParentID.IsValid() {
			return c.nest(s, nil, now) // below something else, such as a start
		}
		return c.nest(s, by, now)
	case cln.SpanRequest:
		return c.relateRequest(s, now)
	}
	if step, ok := strings.CutPrefix(s.Name, cln.PrefixXpay); ok {
		c.joinPayment(s, step, now)
		return false
	}
	return c.nest(s, nil, now)
}

func (c *Correlator) relateRequest(s *Span, now time.Time) (waits bool) {
	path, n := s.path(), c.nodes.of(s.Process, now)
	if path != "" {
		s.Request = clip(path.FirstComponent()) // clipped as in the root of the request
	}
	links, parent := c.inner.take(s, c.ids.pathKey(n.scope, path), now)
	// A request that others have taken for their parent goes to their trace even if its
	// sender gave it another parent.
	var q *openRequest
	var rootID trace.SpanID
	root := path.Root()
	grouped := c.Group && root != "" && !s.WasCut() && (!s.ParentID.IsValid() || parent)
	if grouped {
		q, rootID = c.group(n, s, root, path, now)
	} else {
		enclose(s, links)
	}
	// A request of a plugin has two components at least.
	if outer := path.Parent(""); strings.Contains(string(outer), "/") {
		c.inner.add(c.ids.pathKey(n.scope, outer), s, grouped, now)
	}
	t := n.stream(s.Process)
	t.last = lastRequest{method: t.method(clip(s.Detail)), start: s.Timestamp, end: s.Timestamp + s.Duration}
	if grouped {
		t.last.payment = payment{q, s.TraceID, rootID}
	}
	if q != nil {
		t.noteEnd(q, s.Timestamp+s.Duration)
		q.finish(s)
	}
	if c.pair(n, t, s, path, now) {
		return true
	}
	c.cover(s, q)
	return false
}

// scope returns what the ids of the request with that path, which p sent, are computed
// in. Where the root of the path holds no number of lightningd's, that is the run of
// the plugin that counts.
func (c *Correlator) scope(n *node, p *process.Identity, root, path cln.Path, now time.Time) scope {
	if name, _ := path.Last(); name != "" && n.plugins[clip(name)] != p {
		if before := n.plugins[clip(name)]; before != nil {
			c.abandon(before)
		}
		n.notePlugin(name, p)
	}
	name, _ := root.Last()
	if name == "cln" || name == "" {
		return n.scope
	}
	counts, known := n.plugins[clip(name)]
	if !known && c.child != nil && now.Sub(c.searched) >= searchEvery {
		c.searched = now
		counts = c.child(n.run.PID, name)
		n.notePlugin(name, counts)
	}
	if counts == nil || counts.PID == 0 {
		return n.scope
	}
	return c.ids.plugin(n.scope, counts)
}

// group gives s the ids that follow from its path. It returns the request that s
// belongs to, or nil if that has its root already, and the root's id.
func (c *Correlator) group(n *node, s *Span, root, path cln.Path, now time.Time) (*openRequest, trace.SpanID) {
	s.SentTraceID, s.SentID = s.TraceID, s.ID
	top := !s.ParentID.IsValid()
	in := c.scope(n, s.Process, root, path, now)
	s.TraceID, s.ID = c.ids.traceID(in, root), c.ids.spanID(in, path)
	first, rootID := s.TraceID, s.ID
	if path != root {
		rootID = c.ids.spanID(in, root)
	}
	q, parent := c.place(n, s, root, path, in, rootID, now)
	s.ParentID = parent
	if outer := path.Parent(root); outer != "" && outer != root {
		s.ParentID = c.ids.spanID(in, outer)
	}
	switch {
	case q == nil && s.ID == parent: // its place has been taken by the root that was added
		s.ID = s.SentID
	case q == nil:
	case path == root && s.TraceID == first:
		q.sent, s.ParentID = true, trace.SpanID{}
		q.servedBy(s.Process)
	case s.ParentID == parent:
		q.servedBy(s.Process)
	}
	if top {
		c.adopt(s)
	}
	return q, parent
}
