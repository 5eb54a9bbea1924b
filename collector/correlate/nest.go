package correlate

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/process"
)

// lightningd gives each command a trace of its own. The command and the spans below
// it wait for the plugin's request that they served, and move into its trace. Spans
// come before their parents, so a span with a parent waits until the span at the top
// of its trace shows whether that is a command. If it is a plugin's request, which gets
// other ids, the spans below it move along.

const (
	// nestWait is how long a command and the spans below it wait at most, from the first
	// of them on. With the interval at which waits are looked at, that is below 1 s.
	nestWait = 850 * time.Millisecond
	// markWait is how long a trace whose spans have left is remembered, so that those
	// that follow, as in a start of minutes, need not wait.
	markWait = time.Minute
	// maxNesting bounds the spans that wait: two seconds' worth of the highest peak,
	// 16,400 spans a second, if all of them had to.
	maxNesting = 1 << 15
)

// tree is the spans of one of a process's traces, children first.
type tree struct {
	key     treeKey
	spans   []*Span
	command *command // at the top; nil: it has not come
	left    bool     // the spans have left, and others are not to wait
	until   time.Time
}

type treeKey struct {
	process *process.Identity
	trace   trace.TraceID
}

// nesting are the trees that wait.
type nesting struct {
	trees map[treeKey]*tree
	queue []*tree // oldest first, some of which do not wait any more
	marks []*tree // that have left, oldest first
	spans int     // that wait
}

func newNesting() nesting { return nesting{trees: make(map[treeKey]*tree)} }

// nest takes s if it has to wait: it is the command by, or below a span that has not
// come yet.
func (c *Correlator) nest(s *Span, by *command, now time.Time) (taken bool) {
	if !c.Group || c.known.IsValid() || s.Truncated {
		return false
	}
	top := !s.ParentID.IsValid()
	if top && by == nil && len(c.nesting.trees) == 0 {
		return false
	}
	key := treeKey{s.Process, s.TraceID}
	t := c.nesting.trees[key]
	switch {
	case t == nil && top && by == nil:
		return false
	case t == nil:
		if t = c.nesting.add(key, now); t == nil {
			return false
		}
	case top && (t.left || by == nil):
		c.leave(t)
		delete(c.nesting.trees, key)
		return false
	case t.left || c.nesting.spans >= maxNesting:
		return false
	}
	if top {
		t.command, by.tree = by, t
	}
	t.spans = append(t.spans, s)
	c.nesting.spans++
	return true
}

// add begins a tree. It returns nil if too many spans wait.
func (n *nesting) add(key treeKey, now time.Time) *tree {
	if n.spans >= maxNesting || len(n.trees) >= maxNesting {
		return nil
	}
	t := &tree{key: key, until: now.Add(nestWait)}
	n.trees[key] = t
	n.queue = append(n.queue, t)
	return t
}

// leave lets the spans of t go.
func (c *Correlator) leave(t *tree) {
	for _, s := range t.spans {
		c.deliver(s)
	}
	c.nesting.spans -= len(t.spans)
	t.spans, t.left = nil, true
	if t.command != nil {
		t.command.tree, t.command = nil, nil
	}
}

// adopt moves what is below the request s, which has got other ids, and has not left.
func (c *Correlator) adopt(s *Span) {
	if t := c.nesting.trees[treeKey{s.Process, s.SentTraceID}]; t != nil && !t.left && t.command == nil {
		c.move(t, s.SentID, s)
	}
}

// move puts the spans of t into the trace of the request s: a command that served it
// and what is below that, or what was sent as below s. Those with the parent top get s
// for theirs.
func (c *Correlator) move(t *tree, top trace.SpanID, s *Span) {
	for _, below := range t.spans {
		if below.ParentID == top {
			below.SentTraceID, below.ParentID = below.TraceID, s.ID
		}
		below.TraceID = s.TraceID
	}
	c.leave(t)
	delete(c.nesting.trees, t.key)
}

// expireNesting lets trees go that have waited for long enough.
func (c *Correlator) expireNesting(now time.Time) {
	n := &c.nesting
	for len(n.queue) > 0 && (n.queue[0].left || !now.Before(n.queue[0].until)) {
		t := n.queue[0]
		n.queue[0] = nil
		n.queue = n.queue[1:]
		switch {
		case t.left: // it has left already
		case t.command != nil:
			c.leave(t)
			delete(n.trees, t.key)
		default:
			c.leave(t)
			t.until = now.Add(markWait)
			n.marks = append(n.marks, t)
		}
	}
	for len(n.marks) > 0 && !now.Before(n.marks[0].until) {
		if n.trees[n.marks[0].key] == n.marks[0] {
			delete(n.trees, n.marks[0].key)
		}
		n.marks[0] = nil
		n.marks = n.marks[1:]
	}
}
