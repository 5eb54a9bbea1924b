package payments

import (
	"slices"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/zipkin"
)

// The askrene-reserve before a part tells which request the part is of. Where that span
// was lost, it is one of the requests for which cln-xpay asked for something just before
// the part began. As long as the part is open one of them is, and nobody knows which.

const (
	// maxSuspects bounds the requests that a part may be of.
	maxSuspects = 64
	// suspectWindow is how long before pay_part_start the last span came, at most, of the
	// request that the part is of. That is maxLag and what the spans took that were lost:
	// askrene-reserve takes half a second where processors are scarce.
	suspectWindow = 2 * time.Second
)

// ask is a request of cln-xpay, during the request that it serves.
type ask struct {
	start, end int64 // µs
	request    RequestID
	last       bool // no part of the payment is open
}

// asked notes what cln-xpay asked for.
func (t *Tracker) asked(s *zipkin.Span, method string, request RequestID) {
	if request == (RequestID{}) {
		return
	}
	if len(t.asks) >= maxReserves {
		t.asks = append(t.asks[:0], t.asks[maxReserves/2:]...)
	}
	a := ask{s.Timestamp, s.Timestamp + s.Duration, request, method == cln.MethodFinish}
	t.asks = append(t.asks, a)
	for _, p := range t.unbound {
		p.acquit(a)
	}
}

// suspect finds the requests that p may be of.
func (t *Tracker) suspect(p *part) {
	if !t.isUnbound(p) {
		return
	}
	for _, a := range t.asks {
		if !within(since(a.end, p.at), -clockSlack, suspectWindow) {
			continue
		}
		p.suspects = slices.DeleteFunc(p.suspects, func(id RequestID) bool { return id == a.request })
		if !a.last && len(p.suspects) < maxSuspects {
			p.suspects = append(p.suspects, a.request)
		}
	}
	for _, a := range t.asks {
		p.acquit(a)
	}
	t.unbound = append(slices.DeleteFunc(t.unbound, func(p *part) bool { return !t.isUnbound(p) }), p)
}

// isUnbound reports whether p is open and nobody knows which request it is of.
func (t *Tracker) isUnbound(p *part) bool {
	open, _ := t.parts.Peek(p.start.Part)
	return open == p && p.payment.request == (RequestID{})
}

// acquit says that p, which is open, is not of a request that has ended.
func (p *part) acquit(a ask) {
	if a.last && a.start > p.at.UnixMicro() {
		p.suspects = slices.DeleteFunc(p.suspects, func(id RequestID) bool { return id == a.request })
	}
}

// isSuspected reports whether a part is open that may be of that request.
func (t *Tracker) isSuspected(id RequestID) bool {
	if t.suspected == nil {
		t.suspected = make(map[RequestID]struct{})
		for _, p := range t.unbound {
			if t.isUnbound(p) {
				t.accuse(p)
			}
		}
	}
	_, ok := t.suspected[id]
	return ok
}

// accuse notes the requests that p may be of. Those of which a payment is known have
// most probably made no other one, so they count only if there are no others.
func (t *Tracker) accuse(p *part) {
	others := slices.DeleteFunc(slices.Clone(p.suspects), func(id RequestID) bool { return t.requests.Contains(id) })
	if len(others) == 0 {
		others = p.suspects
	}
	for _, id := range others {
		t.suspected[id] = struct{}{}
	}
}
