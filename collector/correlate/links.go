package correlate

import (
	"time"

	"go.opentelemetry.io/otel/trace"

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
	grouped bool
}

func newInner() inner { return inner{newCandidates[pathKey, innerLink]()} }

// add records that s was made during the request with that path.
func (n inner) add(path pathKey, s *Span, grouped bool, now time.Time) {
	if len(n.byKey[path]) < maxLinks {
		n.candidates.add(path, innerLink{Link{Encloses, s.TraceID, s.ID}, s.Process, grouped}, now)
	}
}

// take returns the links from s to the requests that other processes made during
// it, and whether any request made during it has s for its parent.
func (n inner) take(s *Span, path pathKey, now time.Time) (links []Link, parent bool) {
	n.expire(now.Add(-linkWindow))
	for _, l := range n.candidates.take(path) {
		parent = parent || l.value.grouped
		if l.value.process != s.Process {
			links = append(links, l.value.Link)
		}
	}
	return links, parent
}

// enclose links s to the requests that other processes made during it.
func enclose(s *Span, links []Link) {
	s.Links = append(s.Links, links[:min(len(links), maxLinks-len(s.Links))]...)
}

// serve says in s that the command served it, and moves the command below s if it has
// not left yet.
func (c *Correlator) serve(n *node, s *Span, by *command) {
	c.learn(s, by)
	n.commands.remove(by)
	s.Paired = true
	s.Wait, s.Work = time.Duration(by.start-s.Timestamp)*time.Microsecond, time.Duration(by.end-by.start)*time.Microsecond
	if by.tree != nil {
		c.move(by.tree, trace.SpanID{}, s)
		return
	}
	s.Links = append(s.Links, Link{ServedBy, by.traceID, by.spanID})
}
