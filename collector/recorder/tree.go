package recorder

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"clntrace/collector/cln"
)

const (
	// manyAlike is from how many on siblings that are alike are one row; if there is
	// something inside of them, the slowest is shown, and a row for the others.
	manyAlike = 3
	// manyFailed is the same for those that failed.
	manyFailed = 9
	// manyParts is from how many parts of a payment on only the slowest of them shows
	// what is inside.
	manyParts = 5
	// maxParts is how many parts that did not fail have a row of their own, the slowest
	// ones. Those that failed all have one.
	maxParts = 16
	// maxStatements is how many rows of different statements stand below one span:
	// the slowest, and one for the others. A first start has 400 below db_setup.
	maxStatements = 4
	// maxRows is how many rows stand below one span.
	maxRows = 20
)

// node is a row of a tree: a span, or several that are alike, and what is inside.
type node struct {
	*TraceSpan
	children []*node
	title    string  // instead of the label
	process  string  // plain
	label    string  // plain
	times    []times // where its bar is
	count    int     // spans
	busy     int64   // µs, sum of the durations
	longest  int64   // µs
	failed   int     // how many failed
	strayed  bool    // its parent is not there
	brief    bool    // what is inside is not shown
	place    int64   // by which siblings are ordered: when it began, µs from the trace's start
}

// times are when a span began and ended, µs from the trace's start.
type times struct{ begin, end int64 }

func newNode(s *TraceSpan) *node {
	n := &node{
		TraceSpan: s, process: plain(s.Process), label: plain(label(s.Span, s.Detail)),
		times: []times{{s.OffsetUS, s.OffsetUS + s.DurationUS}}, count: max(s.Count, 1), busy: s.DurationUS, longest: s.DurationUS,
	}
	if n.isPart() {
		n.label = fmt.Sprint("part ", s.Attributes[keyPart])
	}
	if s.pending() {
		number, _, _ := strings.Cut(s.Detail, " ")
		n.label = plain(label(s.Span, number))
	}
	n.place = n.begin()
	if s.Count > 1 {
		n.busy, n.longest = s.BusyUS, s.LongestUS
	}
	if s.Status == StatusFailed {
		n.failed = 1
	}
	return n
}

// begin is when the first span of n began, µs from the trace's start.
func (n *node) begin() int64 { return n.times[0].begin }

// plain reports whether there is nothing to be said of n.
func (n *node) plain() bool { return n.failed == 0 && len(n.remarks()) == 0 }

// leaf reports whether there is nothing inside of n either.
func (n *node) leaf() bool { return len(n.children) == 0 && n.plain() }

func (n *node) statement() bool { return cln.IsQuery(n.Span) && n.leaf() }

// arrange makes trees of the spans of a trace: of what has no parent. What has one
// that is not there hangs below the root.
func arrange(spans []TraceSpan) []*node {
	byID := make(map[string]*node, len(spans))
	nodes := make([]*node, len(spans))
	for i := range spans {
		n := newNode(&spans[i])
		nodes[i] = n
		if n.SpanID == "" { // of something open, which has nothing inside yet
			continue
		}
		if known := byID[n.SpanID]; known == nil || n.DurationUS > known.DurationUS {
			byID[n.SpanID] = n
		}
	}
	var roots, strayed []*node
	for _, n := range nodes {
		parent := byID[n.ParentID]
		switch {
		case n.ParentID == "":
			roots = append(roots, n)
		case parent == nil || inside(parent, n, byID):
			strayed = append(strayed, n)
		default:
			parent.children = append(parent.children, n)
		}
	}
	if len(roots) != 1 {
		return append(roots, strayed...)
	}
	for _, n := range strayed {
		n.strayed = true
	}
	roots[0].children = append(roots[0].children, strayed...)
	return roots
}

// inside reports whether n is above itself: ids are up to the senders.
func inside(parent, n *node, byID map[string]*node) bool {
	for range len(byID) {
		if parent == nil || parent == n {
			return parent == n
		}
		parent = byID[parent.ParentID]
	}
	return true // a circle of others
}

// fold combines the children of n, and theirs, so that few rows are left.
func (n *node) fold() {
	n.shortenParts()
	for _, c := range n.children {
		c.fold()
	}
	byPlace := func(a, b *node) int { return cmp.Compare(a.place, b.place) }
	slices.SortStableFunc(n.children, byPlace)
	n.children = combineAlike(n.children)
	n.children = combineRest(n.children, maxStatements, (*node).statement, "statements")
	n.children = combineRest(n.children, maxParts, func(c *node) bool { return c.isPart() && c.failed == 0 }, "parts")
	n.children = combineRest(n.children, maxRows, func(c *node) bool { return !c.isPart() }, "spans")
	slices.SortStableFunc(n.children, byPlace)
}

// isPart reports whether n is a part of a payment.
func (n *node) isPart() bool { return n.title == "" && n.Attributes[keyPart] != nil }

// shortenParts leaves out what is inside of the parts below n, if there are many, but
// for the slowest one.
func (n *node) shortenParts() {
	var parts []*node
	for _, c := range n.children {
		if c.isPart() {
			parts = append(parts, c)
		}
	}
	if len(parts) < manyParts {
		return
	}
	slowest := slices.MaxFunc(parts, func(a, b *node) int { return cmp.Compare(a.busy, b.busy) })
	for _, c := range parts {
		if c != slowest {
			c.brief, c.children = true, nil
		}
	}
}

// combineAlike combines siblings that are alike.
func combineAlike(children []*node) []*node {
	type kind struct {
		process, label        string
		leaf, failed, strayed bool
	}
	alike := make(map[kind][]*node)
	var order []kind
	for _, c := range children {
		k := kind{c.process, c.label, c.leaf(), c.failed > 0, c.strayed}
		if len(alike[k]) == 0 {
			order = append(order, k)
		}
		alike[k] = append(alike[k], c)
	}
	var rows []*node
	for _, k := range order {
		list := alike[k]
		switch {
		case len(list) < 2, len(list) < manyAlike && !k.leaf, len(list) < manyFailed && !list[0].plain():
			rows = append(rows, list...)
		case k.leaf:
			rows = append(rows, combine(list))
		default:
			at := slowest(list)
			shown := list[at]
			rest := combine(slices.Delete(list, at, at+1))
			rest.title = fmt.Sprintf("%d more %s", rest.count, rest.label)
			rest.place = shown.place // right below it
			rows = append(rows, shown, rest)
		}
	}
	return rows
}

// slowest returns the index of the one to show: one that failed, or else the slowest.
func slowest(list []*node) int {
	at := 0
	for i, n := range list {
		if n.failed > 0 && list[at].failed == 0 || (n.failed > 0) == (list[at].failed > 0) && n.busy > list[at].busy {
			at = i
		}
	}
	return at
}

// combine makes one row of several, without what is inside.
func combine(list []*node) *node {
	first := list[0]
	row := &node{TraceSpan: first.TraceSpan, process: first.process, label: first.label, strayed: first.strayed, place: first.place}
	for _, n := range list {
		row.times = append(row.times, n.times...)
		row.count += n.count
		row.busy += n.busy
		row.longest = max(row.longest, n.longest)
		row.failed += n.failed
	}
	return row
}

// combineRest leaves at most so many of the rows that which chooses, the slowest and
// those that failed, and combines the others.
func combineRest(rows []*node, most int, which func(*node) bool, what string) []*node {
	var chosen []*node
	for _, n := range rows {
		if which(n) {
			chosen = append(chosen, n)
		}
	}
	if len(chosen) <= most {
		return rows
	}
	slices.SortStableFunc(chosen, func(a, b *node) int {
		return cmp.Or(cmp.Compare(min(b.failed, 1), min(a.failed, 1)), cmp.Compare(b.busy, a.busy))
	})
	rest := chosen[most-1:]
	slices.SortStableFunc(rest, func(a, b *node) int { return cmp.Compare(a.begin(), b.begin()) })
	row := combine(rest)
	size := 0
	for _, n := range rest {
		size += n.size()
		if n.process != row.process {
			row.process = "" // of several
		}
	}
	row.title = fmt.Sprintf("%d other %s", size, what)
	gone := make(map[*node]bool, len(rest))
	for _, n := range rest {
		gone[n] = true
	}
	return append(slices.DeleteFunc(rows, func(n *node) bool { return gone[n] }), row)
}

// size counts the spans of a tree.
func (n *node) size() int {
	size := n.count
	for _, c := range n.children {
		size += c.size()
	}
	return size
}

// name is the text of the row.
func (n *node) name() string {
	switch {
	case n.title != "":
		return n.title
	case n.count > 1:
		return fmt.Sprintf("%d x %s", n.count, n.label)
	}
	return n.label
}

// remarks are lines below n: what became of a part of a payment or of a request.
func (n *node) remarks() []string {
	if n.title != "" || n.count > 1 {
		return nil
	}
	var list []string
	if part := n.details(); part != "" {
		list = append(list, part)
	}
	switch why := n.why(); {
	case why != "":
		list = append(list, why)
	case n.failed > 0 && !slices.ContainsFunc(n.children, func(c *node) bool { return c.failed > 0 }):
		list = append(list, "failed: no span and no notification says why")
	}
	return list
}
