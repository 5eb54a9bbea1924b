package correlate

import (
	"strings"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/process"
)

const maxLinks = 128 // of one span, the default limit of the SDK

// commands are lightningd's spans about requests, by method. One of them served
// the request of a plugin. Methods that are too long to be real count as the same
// if they begin alike.
type commands struct{ *candidates[string, command] }

type command struct {
	start, end int64 // µs
	link       Link
}

func newCommands() commands { return commands{newCandidates[string, command]()} }

func (c commands) add(s *Span, now time.Time) {
	c.candidates.add(strings.Clone(clip(s.Detail)), command{
		s.Timestamp, s.Timestamp + s.Duration, Link{ServedBy, s.TraceID, s.ID},
	}, now)
}

// serving returns the link from the request s to the only command of its method
// that began while it was open. If there are several there is no link: a wrong one
// would be worse.
func (c commands) serving(s *Span) (link Link, ok bool) {
	list := c.byKey[clip(s.Detail)]
	for i := len(list) - 1; i >= 0; i-- {
		known := &list[i].value
		// lightningd does one thing at a time and sends each span when it ends, so
		// all commands before this one began before s did.
		if known.end < s.Timestamp {
			break
		}
		if known.start < s.Timestamp || known.start > s.Timestamp+s.Duration {
			continue
		}
		if ok {
			return Link{}, false
		}
		link, ok = known.link, true
	}
	return link, ok
}

// inner are requests, by the path of the request during which they were made.
type inner struct {
	*candidates[pathKey, innerLink]
}

type innerLink struct {
	Link
	process *process.Identity
}

func newInner() inner { return inner{newCandidates[pathKey, innerLink]()} }

// add records that s was made during the request with that path.
func (n inner) add(path pathKey, s *Span, now time.Time) {
	if len(n.byKey[path]) < maxLinks {
		n.candidates.add(path, innerLink{Link{Encloses, s.TraceID, s.ID}, s.Process}, now)
	}
}

// take returns the links from s to the requests that other processes made during
// it.
func (n inner) take(s *Span, path pathKey, now time.Time) (links []Link) {
	n.expire(now.Add(-linkWindow))
	for _, l := range n.candidates.take(path) {
		if l.value.process != s.Process {
			links = append(links, l.value.Link)
		}
	}
	return links
}

// link adds links to s, and makes s a candidate for links of later spans.
func (c *Correlator) link(s *Span, path cln.Path, grouped bool, now time.Time) {
	switch s.Name {
	case cln.SpanCommand:
		c.commands.add(s, now)
	case cln.SpanRequest:
		if l, ok := c.commands.serving(s); ok {
			s.Links = append(s.Links, l)
		}
		links := c.inner.take(s, c.ids.pathKey(path), now)
		if !grouped { // else it is their parent
			s.Links = append(s.Links, links[:min(len(links), maxLinks-len(s.Links))]...)
		}
		// A request of a plugin has two components at least.
		if outer := path.Parent(""); strings.Contains(string(outer), "/") {
			c.inner.add(c.ids.pathKey(outer), s, now)
		}
	}
}
