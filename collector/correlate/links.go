package correlate

import (
	"strings"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/process"
)

const maxLinks = 128 // of one span, the default limit of the SDK

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

// enclose links s to the requests that other processes made during it, unless it is
// their parent, and keeps s for the request during which it was made.
func (c *Correlator) enclose(s *Span, path cln.Path, grouped bool, now time.Time) {
	links := c.inner.take(s, c.ids.pathKey(path), now)
	if !grouped { // else it is their parent
		s.Links = append(s.Links, links[:min(len(links), maxLinks-len(s.Links))]...)
	}
	// A request of a plugin has two components at least.
	if outer := path.Parent(""); strings.Contains(string(outer), "/") {
		c.inner.add(c.ids.pathKey(outer), s, now)
	}
}

// serve says in s that the command served it.
func (c *Correlator) serve(n *node, s *Span, by *command) {
	n.commands.remove(by)
	s.Paired = true
	s.Wait, s.Work = time.Duration(by.start-s.Timestamp)*time.Microsecond, time.Duration(by.end-by.start)*time.Microsecond
	s.Links = append(s.Links, Link{ServedBy, by.traceID, by.spanID})
}
