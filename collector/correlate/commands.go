package correlate

import (
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
)

const (
	// maxCommands bounds lightningd's commands that are kept for requests to come:
	// 60 s of the 170 a second that payments cause. Two tables of requests that wait
	// for their command are as large at most.
	maxCommands = 10000
	// maxCompared bounds the commands that a request is compared with. Where there
	// are more of one method at once, none of them is told apart from the others.
	maxCompared = 64
)

// command is lightningd's work on a request, of a plugin or of another client.
type command struct {
	method     string
	start, end int64 // µs
	traceID    trace.TraceID
	spanID     trace.SpanID
	came       time.Time
	gone       bool      // not kept any more
	waits      bool      // it may be a sign that a request is open
	suspects   []suspect // whose
	tree       *tree     // it waits with; nil: it has left
	doubted    uint64    // what node.changes was when it was found that it may have served another request
}

// commands are those of one node that have not been paired with the request that
// they served, by method and in the order in which they were begun. lightningd does
// one thing at a time, so that is the order in which they end and come. Methods that
// are too long to be real count as the same if they begin alike.
type commands struct {
	byMethod map[string][]*command
	order    []*command // oldest first
	waiting  []*command // those that are a sign of an open request and older than the rest
}

func newCommands() commands { return commands{byMethod: make(map[string][]*command)} }

// add keeps the command s.
func (c *commands) add(s *Span, now time.Time) *command {
	c.expire(now)
	if len(c.order) >= maxCommands {
		c.forgetOldest()
	}
	method := clip(s.Detail)
	list, ok := c.byMethod[method]
	if !ok {
		method = strings.Clone(method)
	} else if len(list) > 0 {
		method = list[0].method
	}
	added := &command{
		method: method, start: s.Timestamp, end: s.Timestamp + s.Duration,
		traceID: s.TraceID, spanID: s.ID, came: now,
	}
	c.order = append(c.order, added)
	at := len(list)
	for at > 0 && list[at-1].start > added.start { // one inside another; lightningd has none
		at--
	}
	c.byMethod[method] = slices.Insert(list, at, added)
	return added
}

func (c *commands) expire(now time.Time) {
	for len(c.order) > 0 && now.Sub(c.order[0].came) > linkWindow {
		c.forgetOldest()
	}
	for len(c.waiting) > 0 && (!c.waiting[0].waits || now.Sub(c.waiting[0].came) > evidenceWait) {
		c.remove(c.waiting[0])
		c.waiting = c.waiting[1:]
	}
}

func (c *commands) forgetOldest() {
	oldest := c.order[0]
	c.order[0] = nil
	c.order = c.order[1:]
	if oldest.waits && len(c.waiting) < maxCommands {
		c.waiting = append(c.waiting, oldest)
	} else {
		c.remove(oldest)
	}
}

// remove takes known out of its method's list.
func (c *commands) remove(known *command) {
	if known.gone {
		return
	}
	known.gone, known.waits, known.suspects = true, false, nil
	list := c.byMethod[known.method]
	i := slices.Index(list, known)
	switch {
	case i < 0:
	case len(list) == 1:
		delete(c.byMethod, known.method)
	case i == 0: // nearly always
		list[0] = nil
		c.byMethod[known.method] = list[1:]
	default:
		c.byMethod[known.method] = slices.Delete(list, i, i+1)
	}
}

// interval bounds what may have served a request, µs.
type interval struct {
	after, before int64 // the command's start is between them, both excluded
	end           int64 // the command's end is not after this
}

// within returns the commands of a method that lie in the interval, in order, valid
// until one is added or removed. If there are more than maxCompared it returns the
// first ones and says so.
func (c *commands) within(method string, in interval) (found []*command, tooMany bool) {
	known := c.byMethod[clip(method)]
	from, to := in.cut(known)
	if to-from > maxCompared {
		return known[from : from+maxCompared], true
	}
	return known[from:to], false
}

// cut returns the range from..to-1 of the commands, all of one method, that lie in the
// interval: more than maxCompared are not counted.
func (in interval) cut(known []*command) (from, to int) {
	from = sortedAfter(known, in.after)
	for to = from; to < len(known) && to-from <= maxCompared && known[to].start < in.before && known[to].end <= in.end; {
		to++
	}
	return from, to
}

// sortedAfter returns the index of the first command that began after start.
func sortedAfter(list []*command, start int64) int {
	i, _ := slices.BinarySearchFunc(list, start, func(k *command, start int64) int {
		if k.start <= start {
			return -1
		}
		return 1
	})
	return i
}
