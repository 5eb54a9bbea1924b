package correlate

import (
	"cmp"
	"math"
	"slices"

	"clntrace/collector/process"
)

// Where spans are lost, the only command that is left for a request may be that of
// another one. So it has to be the request's own by what is known of all the others,
// too: as many commands as requests, each of which can have one, and none that a
// request in a gap may have been served by.

// doubtful reports whether by, which is left for the request at i, may have served another
// one, as far as there is time to look.
func (c *Correlator) doubtful(n *node, t *stream, i int, by *command) bool {
	if n.effort -= maxAligned; n.effort <= 0 || by.doubted == n.changes {
		return true
	}
	group, fits := n.rivals(by.method, t.bounds(i))
	alone := t.isAlone(i)
	if fits && !n.besideGap(t, i, by) && !slices.ContainsFunc(group, func(k *command) bool { return c.claimed(n, t, k, alone) }) {
		return false
	}
	by.doubted = n.changes
	return true
}

// short reports whether there are fewer commands around the request at i than the
// plugin has sent requests: some were lost.
func (n *node) short(t *stream, i int) bool {
	from, to, in := t.around(i)
	if to-from == 1 || to-from > maxAligned || in.after == math.MinInt64 || in.before == math.MaxInt64 {
		return false
	}
	return n.begun(t, t.entries[i].span.Process, in.after, in.before) < to-from
}

// contender is a request by the commands of its method that may have served it:
// from..to-1.
type contender struct{ from, to int }

// rivals returns the commands of a method within the bounds of a request, those that
// other waiting requests may have been served by as well as by one of these, and so on.
// It reports whether each of these requests can have one of its own, and none is left
// over: if not, some were lost, or are of requests that have not come.
func (n *node) rivals(method string, in interval) (group []*command, fits bool) {
	known := n.commands.byMethod[clip(method)]
	from, to := in.cut(known)
	var found []contender
	for counted := -1; len(found) > counted; {
		if from == to || to-from > maxCompared || n.effort <= 0 {
			return nil, false
		}
		counted, found = len(found), found[:0]
		for _, w := range n.waiting(method, known[from].end) {
			if w.entry.span == nil || w.entry.start > known[to-1].start {
				continue
			}
			r := contender{}
			r.from, r.to = w.stream.bounds(w.stream.index(w.entry.number)).cut(known)
			if r.from < r.to && r.from < to && r.to > from {
				found = append(found, r)
				from, to = min(from, r.from), max(to, r.to)
			}
			if len(found) > maxCompared {
				return nil, false
			}
		}
	}
	return known[from:to], len(found) == to-from && match(found, from)
}

// match reports whether each of the requests can have a command of its own, the first of
// which is at from: each command goes to the request that has the fewest left.
func match(requests []contender, from int) bool {
	slices.SortFunc(requests, func(a, b contender) int { return cmp.Compare(a.to, b.to) })
	for at := from; len(requests) > 0; at++ {
		i := slices.IndexFunc(requests, func(r contender) bool { return r.from <= at && at < r.to })
		if i < 0 {
			return false
		}
		requests = slices.Delete(requests, i, i+1)
	}
	return true
}

// besideGap reports whether by may have served a request in a gap beside the one at i: there
// are fewer commands between by and that of the request beyond the gap than it has requests.
func (n *node) besideGap(t *stream, i int, by *command) bool {
	from, to := i, i+1
	for from > 0 && !t.entries[from-1].known {
		from--
	}
	for to < len(t.entries) && !t.entries[to].known {
		to++
	}
	p := t.entries[i].span.Process
	return from < i && n.begun(t, p, n.latest(t, from-1, by), by.start) < i-from ||
		to > i+1 && n.begun(t, p, by.start, n.earliest(t, to, by)) < to-1-i
}

// latest returns when the request at i was begun at the latest, if by served a later one.
func (n *node) latest(t *stream, i int, by *command) int64 {
	if i < 0 {
		return math.MinInt64
	}
	e := t.entries[i]
	if e.command != nil {
		return e.command.start
	}
	in := t.bounds(i)
	in.before = min(in.before, by.start)
	if list, _ := n.commands.within(e.method, in); len(list) > 0 {
		return list[len(list)-1].start
	}
	return e.start
}

// earliest returns when the request at i was begun at the earliest, if by served an
// earlier one.
func (n *node) earliest(t *stream, i int, by *command) int64 {
	if i == len(t.entries) {
		return math.MaxInt64
	}
	e := t.entries[i]
	if e.command != nil {
		return e.command.start
	}
	in := t.bounds(i)
	in.after = max(in.after, by.start)
	if list, _ := n.commands.within(e.method, in); len(list) > 0 {
		return list[0].start
	}
	return max(e.end, by.start+1)
}

// begun returns how many commands of methods that the plugin may ask for were begun
// between two times, µs.
func (n *node) begun(t *stream, p *process.Identity, after, before int64) (count int) {
	n.effort -= len(n.commands.byMethod)
	for method, list := range n.commands.byMethod {
		if t.asks(p, method) {
			count += max(sortedAfter(list, before-1)-sortedAfter(list, after), 0)
		}
	}
	return count
}

// wanted reports whether a request of another plugin that waits may have been served by
// the command.
func (n *node) wanted(t *stream, by *command) bool {
	return slices.ContainsFunc(n.waiting(by.method, by.end), func(w pairing) bool {
		if w.stream == t || w.entry.span == nil || w.entry.start > by.start {
			return false
		}
		in := w.stream.bounds(w.stream.index(w.entry.number))
		return in.after < by.start && by.start < in.before
	})
}

// claimed reports whether a command that is left for a request of t may have served
// another one, whose command is left for nobody because it was lost. alone says that it
// is none of t's.
func (c *Correlator) claimed(n *node, t *stream, by *command, alone bool) bool {
	waits := c.mayWait(by.method)
	for _, other := range n.streams.Values() {
		if _, asks := other.methods[by.method]; !asks || other == t && alone {
			continue
		}
		may, looked := other.mayHaveAsked(by, other == t, waits)
		if n.effort -= looked; may || n.effort <= 0 {
			return true
		}
	}
	return false
}
