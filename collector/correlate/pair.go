package correlate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/process"
)

const (
	// pairAfter is how long after a request others are awaited that may have been
	// served by the same command: those that were sent together are answered within
	// milliseconds.
	pairAfter = 100 * time.Millisecond
	// pairEvery is how often it is tried.
	pairEvery = 20 * time.Millisecond
	// pairWait is how long a request that several commands may have served waits for
	// others to rule some of them out.
	pairWait = 800 * time.Millisecond
	// maxPairing bounds the requests that wait: pairWait's worth of 5,000 a second, three
	// times what lightningd can answer at the highest peak. Those beyond it are not paired.
	maxPairing = 4096
	// maxEffort bounds the comparisons each time that pairing is tried, which then take
	// milliseconds. What is left is tried next time.
	maxEffort = 1 << 19
)

// pairing is a request whose command is not known yet.
type pairing struct {
	node   *node
	stream *stream
	entry  *entry
	came   time.Time
}

func (n *node) stream(p *process.Identity) *stream {
	t, ok := n.streams.Get(p)
	if !ok {
		t = newStream()
		n.streams.Add(p, t)
	}
	return t
}

// pair begins to look for the command that served the request s. If it takes s, s is
// Ready when the command is known, or after pairWait.
func (c *Correlator) pair(n *node, t *stream, s *Span, path cln.Path, now time.Time) (taken bool) {
	number, ok := path.Number()
	if !ok {
		return false
	}
	e := t.add(s, number, now)
	if e == nil || len(c.pairings) >= maxPairing {
		return false
	}
	e.span = s
	w := pairing{n, t, e, now}
	c.pairings = append(c.pairings, w)
	list := n.pairings[e.method]
	n.pairings[e.method] = slices.Insert(list, endingAfter(list, e.end), w)
	return true
}

// endingAfter returns the index of the first request that ended after end, µs.
func endingAfter(list []pairing, end int64) int {
	i, _ := slices.BinarySearchFunc(list, end, func(w pairing, end int64) int {
		if w.entry.end <= end {
			return -1
		}
		return 1
	})
	return i
}

// waiting returns the requests of a method that wait, and ended at a time or later, µs.
func (n *node) waiting(method string, end int64) []pairing {
	list := n.pairings[method]
	list = list[endingAfter(list, end-1):]
	n.effort -= len(list)
	return list
}

// join pairs the request of e with its command.
func (c *Correlator) join(n *node, e *entry, known *command) {
	s := e.span
	e.command, e.span = known, nil
	n.changes++
	if s != nil {
		c.serve(n, s, known)
		c.deliver(s)
	}
}

// resolve pairs requests that could not be told apart before the one at i was
// paired: those beside it, and those of the same method by other plugins.
func (c *Correlator) resolve(n *node, t *stream, i int, now time.Time) {
	by := t.entries[i].command
	for _, step := range [...]int{-1, 1} {
		for j := i + step; j >= max(i-maxAligned, 0) && j < min(i+maxAligned, len(t.entries)); j += step {
			if e := t.entries[j]; e.command != nil || e.span != nil && !e.tried || c.attempt(n, t, j, now) {
				break // what is beyond is bounded by another one, has its turn yet, or has been resolved
			}
		}
	}
	if n.effort <= 0 {
		return
	}
	for _, w := range n.waiting(by.method, by.end) {
		if w.stream != t && w.entry.tried && w.entry.start <= by.start {
			c.attempt(n, w.stream, w.stream.index(w.entry.number), now)
		}
	}
}

// attempt pairs the request at i if it has been known for pairAfter and only one
// command is left for it.
func (c *Correlator) attempt(n *node, t *stream, i int, now time.Time) bool {
	if i >= len(t.entries) || t.entries[i].span == nil || now.Sub(t.entries[i].noticed) < pairAfter || n.effort <= 0 {
		return false
	}
	n.effort -= maxAligned
	in := t.bounds(i)
	list, tooMany := n.commands.within(t.entries[i].method, in)
	if len(list) != 1 || tooMany || n.short(t, i) || c.doubtful(n, t, i, list[0]) {
		return false
	}
	c.join(n, t.entries[i], list[0])
	c.resolve(n, t, i, now)
	return true
}

// align pairs the requests around i by their order.
func (c *Correlator) align(n *node, t *stream, i int, now time.Time) {
	from, to, in := t.around(i)
	if to-from > maxAligned {
		return
	}
	entries := t.entries[from:to]
	found := n.oneByOne(t, entries, in)
	counted := found != nil
	if !counted && !n.short(t, i) {
		found = n.inOrder(t, from, to)
	}
	for j, known := range found {
		if known == nil || entries[j].span == nil || now.Sub(entries[j].noticed) < pairAfter || n.effort <= 0 {
			continue
		}
		if counted && !n.wanted(t, known) && !c.claimed(n, t, known, true) || !counted && !c.doubtful(n, t, from+j, known) {
			c.join(n, entries[j], known)
		}
	}
}

// oneByOne returns the command of each of the entries, gaps included, if between the
// commands before and after them there are exactly as many of methods that the plugin
// asks for, and all requests fit.
func (n *node) oneByOne(t *stream, entries []*entry, in interval) []*command {
	if in.after == math.MinInt64 || in.before == math.MaxInt64 {
		return nil
	}
	var found []*command
	for method := range t.methods {
		list, tooMany := n.commands.within(method, in)
		if found = append(found, list...); tooMany || len(found) > len(entries) {
			return nil
		}
	}
	if len(found) != len(entries) {
		return nil
	}
	slices.SortFunc(found, func(a, b *command) int { return cmp.Compare(a.start, b.start) })
	for j, e := range entries {
		if e.known && (found[j].method != e.method || found[j].start < e.start || found[j].end > e.end) {
			return nil
		}
	}
	return found
}

// inOrder returns the commands of the entries from..to-1 that follow from the order
// alone: those for which the first possible command and the last possible one, with
// the commands of the other requests in order before and after it, are the same.
func (n *node) inOrder(t *stream, from, to int) []*command {
	first, last := make([]*command, to-from), make([]*command, to-from)
	lists := make([][]*command, to-from)
	after, before := int64(math.MinInt64), int64(math.MaxInt64)
	for j := range first {
		if t.entries[from+j].span == nil {
			continue
		}
		lists[j], _ = n.commands.within(t.entries[from+j].method, t.bounds(from+j))
		at := sortedAfter(lists[j], after)
		if at == len(lists[j]) || len(lists[j]) >= maxCompared {
			return nil
		}
		first[j] = lists[j][at]
		after = first[j].start
	}
	for j := len(last) - 1; j >= 0; j-- {
		if t.entries[from+j].span == nil {
			continue
		}
		at := sortedAfter(lists[j], before-1) // the first that began at before or later
		if at == 0 {
			return nil
		}
		last[j] = lists[j][at-1]
		before = last[j].start
	}
	for j := range first {
		if first[j] != last[j] {
			first[j] = nil
		}
	}
	return first
}

// forget removes w from the requests of its method.
func (n *node) forget(w pairing) {
	list := n.pairings[w.entry.method]
	i := endingAfter(list, w.entry.end-1)
	for list[i].entry != w.entry {
		i++
	}
	switch {
	case len(list) == 1:
		delete(n.pairings, w.entry.method)
	case i == 0: // nearly always
		list[0] = pairing{}
		n.pairings[w.entry.method] = list[1:]
	default:
		n.pairings[w.entry.method] = slices.Delete(list, i, i+1)
	}
}

// pairAll pairs the requests that can be paired now, and lets those go that have
// waited for long enough.
func (c *Correlator) pairAll(now time.Time) {
	c.pairedAt = now
	for _, n := range c.nodes.known.Values() {
		n.effort = maxEffort
		n.changes++
	}
	for _, w := range c.pairings {
		if now.Sub(w.came) < pairAfter {
			break
		}
		if w.entry.span == nil || w.entry.tried && now.Sub(w.came) < pairWait || w.node.effort <= 0 {
			continue // when more becomes known it is tried again; see resolve
		}
		w.entry.tried = true
		i := w.stream.index(w.entry.number)
		if !c.attempt(w.node, w.stream, i, now) {
			c.align(w.node, w.stream, i, now)
		}
	}
	for len(c.pairings) > 0 {
		w := c.pairings[0]
		if w.entry.span != nil && now.Sub(w.came) < pairWait {
			return
		}
		c.pairings = c.pairings[1:]
		w.node.forget(w)
		if s := w.entry.span; s != nil {
			w.entry.span = nil
			c.cover(s, c.requests.peek(s.TraceID))
			c.deliver(s)
		}
	}
}
