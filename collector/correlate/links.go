package correlate

import (
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"clntrace/collector/detail"
	"clntrace/collector/process"
	"clntrace/collector/request"
)

const (
	linkWindow    = 60 * time.Second // between a span and what it is linked to
	maxCandidates = 10000            // spans kept to be linked to, of each kind
	maxLinks      = 128              // of one span, the default limit of the SDK
)

// commands are lightningd's spans about requests, by method: one of them is
// what a plugin's request was served by.
type commands struct {
	byMethod map[string][]command // oldest first
	order    []commandAge         // of all, oldest first
}

type command struct {
	start, end int64 // µs
	link       Link
}

type commandAge struct {
	method string
	came   time.Time
}

func newCommands() *commands { return &commands{byMethod: make(map[string][]command)} }

func (c *commands) add(s *Span, now time.Time) {
	c.expire(now.Add(-linkWindow))
	if len(c.order) >= maxCandidates {
		c.forgetOldest()
	}
	c.order = append(c.order, commandAge{s.Detail, now})
	c.byMethod[s.Detail] = append(c.byMethod[s.Detail], command{
		s.Timestamp, s.Timestamp + s.Duration, Link{ServedBy, s.TraceID, s.ID},
	})
}

func (c *commands) expire(before time.Time) {
	for len(c.order) > 0 && c.order[0].came.Before(before) {
		c.forgetOldest()
	}
}

func (c *commands) forgetOldest() {
	method := c.order[0].method
	c.order = c.order[1:]
	if rest := c.byMethod[method][1:]; len(rest) > 0 {
		c.byMethod[method] = rest
	} else {
		delete(c.byMethod, method)
	}
}

// serving returns the link from the request s to the one command of its method
// that began while it was open. With several there is none: a guess would be
// worse.
func (c *commands) serving(s *Span) (link Link, ok bool) {
	list := c.byMethod[s.Detail]
	for i := len(list) - 1; i >= 0; i-- {
		// lightningd does one thing after the other and sends each when it
		// ends: all before this one have ended, and so begun, before s began.
		if list[i].end < s.Timestamp {
			break
		}
		if list[i].start < s.Timestamp || list[i].start > s.Timestamp+s.Duration {
			continue
		}
		if ok {
			return Link{}, false
		}
		link, ok = list[i].link, true
	}
	return link, ok
}

// inner are requests by the path of the one inside which they were asked.
type inner struct {
	byPath *simplelru.LRU[request.Path, *enclosed]
}

type enclosed struct {
	came  time.Time // the last one
	links []innerLink
}

type innerLink struct {
	Link
	process *process.Identity
}

func newInner() *inner {
	byPath, err := simplelru.NewLRU[request.Path, *enclosed](maxCandidates, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &inner{byPath}
}

// add notes that s was asked inside the request with that path.
func (n *inner) add(path request.Path, s *Span, now time.Time) {
	e, ok := n.byPath.Get(path)
	if !ok || now.Sub(e.came) > linkWindow {
		e = new(enclosed)
		n.byPath.Add(path, e)
	}
	e.came = now
	if len(e.links) < maxLinks {
		e.links = append(e.links, innerLink{Link{Encloses, s.TraceID, s.ID}, s.Process})
	}
}

// take returns the links from s to what ran inside it in other processes.
func (n *inner) take(s *Span, path request.Path, now time.Time) []Link {
	e, ok := n.byPath.Get(path)
	if !ok {
		return nil
	}
	n.byPath.Remove(path)
	if now.Sub(e.came) > linkWindow {
		return nil
	}
	var links []Link
	for _, l := range e.links {
		if l.process != s.Process {
			links = append(links, l.Link)
		}
	}
	return links
}

// link adds the links of s and keeps s to be linked to.
func (c *Correlator) link(s *Span, path request.Path, grouped bool, now time.Time) {
	switch s.Name {
	case detail.SpanCommand:
		c.commands.add(s, now)
	case detail.SpanRequest:
		if l, ok := c.commands.serving(s); ok {
			s.Links = append(s.Links, l)
		}
		links := c.inner.take(s, path, now)
		if !grouped { // else it is their parent
			s.Links = append(s.Links, links[:min(len(links), maxLinks-len(s.Links))]...)
		}
		// A request of a plugin has two components at least.
		if outer := path.Parent(""); strings.Contains(string(outer), "/") {
			c.inner.add(outer, s, now)
		}
	}
}
