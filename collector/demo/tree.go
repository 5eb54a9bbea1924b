package demo

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/list"
	"github.com/jedib0t/go-pretty/v6/text"

	"clntrace/collector/cln"
)

// Widths of the columns of a tree.
const (
	labelColumn   = 52
	processColumn = 13
	separator     = "\x1f" // between columns, until they are aligned
)

// node is a span and those inside it.
type node struct {
	span
	children []*node
	times    int           // how many similar spans this one stands for
	took     time.Duration // sum of their durations
}

// label says what a span is about.
func (n *node) label() string {
	detail := cmp.Or(attribute(n.GetAttributes(), "db.query.summary"), attribute(n.GetAttributes(), "rpc.method"))
	switch {
	case detail == "", detail == n.GetName():
		return n.GetName()
	case cln.IsQuery(n.GetName()):
		return detail
	}
	return n.GetName() + " " + detail
}

// trees arranges spans as trees, one for each trace, the earliest first.
func trees(spans []span) []*node {
	type id struct{ trace, span string }
	byID := make(map[id]*node, len(spans))
	nodes := make([]*node, 0, len(spans))
	for _, s := range spans {
		n := &node{span: s, times: 1, took: duration(s)}
		nodes = append(nodes, n)
		byID[id{string(s.GetTraceId()), string(s.GetSpanId())}] = n
	}
	var roots []*node
	for _, n := range nodes {
		if parent := byID[id{string(n.GetTraceId()), string(n.GetParentSpanId())}]; parent != nil {
			parent.children = append(parent.children, n)
		} else {
			roots = append(roots, n)
		}
	}
	byStart := func(a, b *node) int { return cmp.Compare(a.GetStartTimeUnixNano(), b.GetStartTimeUnixNano()) }
	for _, n := range nodes {
		slices.SortStableFunc(n.children, byStart)
		n.children = fold(n.children)
	}
	slices.SortStableFunc(roots, byStart)
	return roots
}

// fold combines children that are alike: a start makes the same requests and reads
// the same tables dozens of times.
func fold(children []*node) []*node {
	type kind struct{ process, label string }
	folded := children[:0:0]
	first := make(map[kind]*node)
	for _, c := range children {
		k := kind{c.process, c.kind()}
		if f := first[k]; f != nil && c.foldable() {
			f.times += c.times
			f.took += c.took
			f.children = fold(append(f.children, c.children...))
			continue
		}
		folded = append(folded, c)
		if c.foldable() {
			first[k] = c
		}
	}
	return folded
}

// foldable reports whether n contains nothing but database statements.
func (n *node) foldable() bool {
	for _, c := range n.children {
		if !c.statement() {
			return false
		}
	}
	return true
}

func (n *node) statement() bool { return cln.IsQuery(n.GetName()) && len(n.children) == 0 }

// kind is what nodes that can be folded have in common: the label, or being a
// database statement.
func (n *node) kind() string {
	if n.statement() {
		return "db"
	}
	return n.label()
}

func duration(s span) time.Duration {
	return time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano()) //nolint:gosec // some minutes
}

// size counts the spans of a tree.
func (n *node) size() int {
	size := n.times
	for _, c := range n.children {
		size += c.size()
	}
	return size
}

// writeTree writes a trace as a tree with processes and durations.
func writeTree(w io.Writer, root *node) {
	l := list.NewWriter()
	l.SetStyle(list.StyleConnectedLight)
	appendTree(l, root)
	for _, line := range strings.Split(l.Render(), "\n") {
		label, rest, _ := strings.Cut(strings.TrimRight(line, " "), separator)
		process, took, _ := strings.Cut(rest, separator)
		fmt.Fprintf(w, "%s %s %9s\n", text.Pad(text.Snip(label, labelColumn, "~"), labelColumn, ' '),
			text.Pad(text.Snip(process, processColumn, "~"), processColumn, ' '), took)
	}
}

func appendTree(l list.Writer, n *node) {
	label := n.label()
	switch {
	case n.times > 1 && n.statement():
		label = fmt.Sprintf("%d database statements", n.times)
	case n.times > 1:
		label = fmt.Sprintf("%d x %s", n.times, label)
	}
	l.AppendItem(label + separator + n.process + separator + round(n.took).String())
	l.Indent()
	for _, c := range n.children {
		appendTree(l, c)
	}
	l.UnIndent()
}

// round leaves about three digits.
func round(d time.Duration) time.Duration {
	switch {
	case d >= 100*time.Millisecond:
		return d.Round(time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
