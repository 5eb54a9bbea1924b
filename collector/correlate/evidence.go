package correlate

import (
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/process"
)

// A request's spans come when they end, so what it waits for does not show. But when
// one of its spans has ended, its plugin asks for the next thing within a millisecond,
// and lightningd begins the command for that. A command of a method that lightningd
// does not answer at once is therefore evidence that one of the requests whose spans
// ended just before is open, until the span comes that it served.

const (
	// evidenceWindow is how long before the command the span ended at most: what the
	// plugin takes to ask, and what lightningd takes until it listens.
	evidenceWindow = 50 * time.Millisecond
	// evidenceWait is how long a command holds roots: if the span that it served was
	// lost, nothing else ends it.
	evidenceWait = 10 * time.Minute
	// routesWait is the same for getroutes, which askrene gives up after 10 s.
	routesWait = 30 * time.Second
	// maxEnds bounds the spans of a plugin that are looked at: in a flood of payments
	// a plugin is answered some 10 times in the window.
	maxEnds = 64
	// maxEvidence bounds the commands that speak for one request. A payment has 100
	// parts at most.
	maxEvidence = 128
)

// waits are the methods of which lightningd's command ends long before the request is
// answered, and the plugins that are known to ask for them; others are learned from
// their requests. Methods that plugins serve from memory (askrene-…, listchannels) are
// answered within milliseconds and are left out: counted, the commands of other
// clients would hold one root in eight. So is wait, for a plugin that waits for what
// may never happen does not do it for a request.
var waits = map[string][]string{
	// Payments.
	"injectpaymentonion": {"cln-xpay", "cln-renepay"},
	"waitsendpay":        {"pay", "keysend", "offers"},
	"waitblockheight":    {"cln-xpay", "cln-renepay", "pay", "keysend"},
	"getroutes":          {"cln-xpay", "cln-renepay"}, // askrene thinks for up to 10 s
	"fetchinvoice":       {"cln-xpay", "pay", "cln-renepay"},
	"waitinvoice":        {"offers"},
	"waitanyinvoice":     nil,
	"sendinvoice":        nil,
	"xpay":               nil,
	"pay":                nil,
	"renepay":            nil,
	"keysend":            nil,
	"currencyconvert":    {"offers"}, // asks servers on the Internet
	// Peers and channels.
	"connect":              {"spenderp", "offers", "recover"},
	"disconnect":           {"funder"},
	"ping":                 nil,
	"close":                nil,
	"fundchannel":          nil,
	"multifundchannel":     {"spenderp"},
	"fundchannel_start":    {"spenderp"},
	"fundchannel_complete": {"spenderp"},
	"fundchannel_cancel":   {"spenderp"},
	"openchannel_init":     {"spenderp"},
	"openchannel_update":   {"spenderp"},
	"openchannel_signed":   {"spenderp"},
	"openchannel_abort":    {"spenderp"},
	"openchannel_bump":     nil,
	"splice_init":          {"spenderp"},
	"splice_update":        {"spenderp"},
	"splice_signed":        {"spenderp"},
	"stfu_channels":        {"spenderp"},
	"abort_channels":       {"spenderp"},
	// The bitcoin backend, and what is made to wait.
	"sendpsbt": {"spenderp", "txprepare"},
	"withdraw": nil,
	"txsend":   nil,
	"delay":    nil,
}

// maxLearned bounds the methods that have been found to wait.
const maxLearned = 64

// mayWait reports whether a command of that method says that a request is open.
func (c *Correlator) mayWait(method string) bool {
	_, ok := waits[method]
	if !ok {
		_, ok = c.learned[method]
	}
	return ok
}

// learn notes the methods whose answer took so long that a root was let go too early.
func (c *Correlator) learn(s *Span, by *command) {
	answer := time.Duration(s.Timestamp+s.Duration-by.end) * time.Microsecond
	if answer > quiet && !c.mayWait(by.method) && len(c.learned) < maxLearned {
		c.learned[by.method] = struct{}{}
	}
}

// asks reports whether the plugin may ask for that method.
func (t *stream) asks(p *process.Identity, method string) bool {
	if _, ok := t.methods[method]; ok || !p.Known {
		return ok || !p.Known
	}
	return slices.Contains(waits[method], p.Name)
}

// ended is a span of a request that has ended.
type ended struct {
	request *openRequest
	end     int64 // µs
}

// noteEnd records that a span of q ended.
func (t *stream) noteEnd(q *openRequest, end int64) {
	if len(t.ends) >= maxEnds {
		t.ends = slices.Delete(t.ends, 0, maxEnds/2)
	}
	t.ends = append(t.ends, ended{q, end})
}

// suspect is a request that a command may have been begun for.
type suspect struct {
	ended
	stream *stream
}

// suspect records which requests the command may have been begun for.
func (c *Correlator) suspect(n *node, by *command) {
	if !c.mayWait(by.method) {
		return
	}
	for _, p := range n.streams.Keys() {
		t, _ := n.streams.Peek(p)
		if len(t.ends) == 0 || !t.asks(p, by.method) {
			continue
		}
		for _, e := range t.ends {
			if e.request.closed || e.request.isOver(by.start) || e.end > by.start || by.start-e.end > evidenceWindow.Microseconds() || len(e.request.evidence) >= maxEvidence {
				continue
			}
			by.suspects = append(by.suspects, suspect{e, t})
			if !slices.Contains(e.request.evidence, by) {
				e.request.evidence = append(e.request.evidence, by)
			}
		}
	}
	by.waits = len(by.suspects) > 0
}

// wait returns how long the command holds roots at most.
func (k *command) wait() time.Duration {
	if k.method == cln.MethodRoutes {
		return routesWait
	}
	return evidenceWait
}

// dismiss says that the command was not begun for q.
func (k *command) dismiss(q *openRequest) {
	k.suspects = slices.DeleteFunc(k.suspects, func(s suspect) bool { return s.request == q })
	k.waits = k.waits && len(k.suspects) > 0
}

// speaksFor reports whether the command may have been begun for q, after what has
// become known since of the plugins' requests.
func (k *command) speaksFor(q *openRequest) bool {
	narrowed := slices.DeleteFunc(slices.Clone(k.suspects), func(s suspect) bool { return !s.stream.mayHaveSent(k, s, k.suspects) })
	if len(narrowed) == 0 {
		narrowed = k.suspects
	}
	return slices.ContainsFunc(narrowed, func(s suspect) bool { return s.request == q })
}

// mayHaveSent reports whether the plugin may have sent the command's request after the
// end of s: there is a gap in the numbers of its requests at that place, and the
// plugin, which does one thing at a time, was not answered anything between the end of
// s and the request before the gap.
func (t *stream) mayHaveSent(k *command, s suspect, all []suspect) bool {
	after, before, gap := t.gap(k.start)
	if !gap {
		return false
	}
	if s.end > after {
		return s.end <= before
	}
	return !slices.ContainsFunc(all, func(o suspect) bool { return o.stream == t && o.end > s.end && o.end <= after })
}

// gap returns when the requests before and after the gap were sent in which a request
// was that lightningd began to work on at start, µs. It reports whether there is a gap
// or may be one, after the last request.
func (t *stream) gap(start int64) (after, before int64, gap bool) {
	before = start
	gaps := false
	for _, e := range t.entries {
		switch {
		case !e.known:
			gaps = true
		case e.command != nil && e.command.start > start:
			return after, min(before, e.start), gaps
		case e.command != nil:
			after, gaps = e.start, false
		case !gaps:
			after = e.start
		}
	}
	return after, before, true
}

// cover ends what speaks for the request of s, which has been answered although nobody
// knows by which command.
func (c *Correlator) cover(s *Span, q *openRequest) {
	if q == nil {
		return
	}
	for i, k := range q.evidence {
		if k.method == clip(s.Detail) && k.start >= s.Timestamp && k.end <= s.Timestamp+s.Duration {
			k.dismiss(q)
			q.evidence = slices.Delete(q.evidence, i, i+1)
			return
		}
	}
}

// finish ends what speaks for q if s is the last thing that cln-xpay asks for when a
// payment is over: the spans of earlier commands were lost, and later ones are those of
// other payments.
func (q *openRequest) finish(s *Span) {
	if s.Detail == cln.MethodFinish && q.served && q.process == s.Process {
		q.over = s.Timestamp
		q.dismiss(func(*command) bool { return true })
	}
}

// isOver reports whether a command that began at start, µs, came too late to be of q.
func (q *openRequest) isOver(start int64) bool { return q.over != 0 && start > q.over }

// dismiss says that some of the commands that speak for q do not.
func (q *openRequest) dismiss(which func(*command) bool) {
	q.evidence = slices.DeleteFunc(q.evidence, func(k *command) bool {
		if which(k) {
			k.dismiss(q)
			return true
		}
		return false
	})
}

// Payments knows of requests what spans do not tell.
type Payments interface {
	// Open reports whether something of the request is open, such as a part of its
	// payment: as long as it may be, the request's root is not added. If it is not, known
	// says whether parts of its payment are known, so that all have ended.
	Open(Request) (open, known bool)
	// Outcome returns whether the request has succeeded. It is asked once, just before
	// the root is added.
	Outcome(Request) Outcome
}

// Request is what is known of a request that has been quiet.
type Request struct {
	TraceID trace.TraceID     // of all its spans
	Process *process.Identity // that serves it
	Method  string            // xpay
	Client  string            // the first component of its id: cli:xpay#4021
	Start   time.Time         // of the first of its spans that have come
	End     time.Time         // of the last one
}

// Outcome is whether a request has succeeded as a whole.
type Outcome int

// The outcomes.
const (
	OutcomeUnknown Outcome = iota // it has failed if one of its spans has
	OutcomeSucceeded
	OutcomeFailed
)

func (q *openRequest) known() Request {
	return Request{
		TraceID: q.trace, Process: q.process, Method: q.method, Client: q.request,
		Start: time.UnixMicro(q.start), End: time.UnixMicro(q.end),
	}
}

// isOpen reports whether something of q is known to be open.
func (c *Correlator) isOpen(q *openRequest, now time.Time) bool {
	partsEnded := false
	if c.payments != nil {
		open, known := c.payments.Open(q.known())
		q.paying, partsEnded = q.paying || open, known && !open
		if open {
			return true
		}
	}
	if q.payments > 0 {
		return true
	}
	q.dismiss(func(k *command) bool {
		return !k.waits || now.Sub(k.came) >= k.wait() || partsEnded && k.method == cln.MethodSendPart
	})
	return slices.ContainsFunc(q.evidence, func(k *command) bool { return k.speaksFor(q) })
}
