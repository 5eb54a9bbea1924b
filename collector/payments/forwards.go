package payments

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
)

// lightningd runs UPDATE forwards once for each forward_event, and INSERT after it
// where that changed nothing: the forward is new. So the k-th event is that of the
// k-th such span. For what was settled or failed further on, resolved_time says so
// too; for a forward that was offered on, the span is the only thing that tells when.

const (
	// resolvedSlack is by how much the span may begin after resolved_time. Measured: 0
	// to 32 µs.
	resolvedSlack = 200 * time.Microsecond
	// resolvedBefore is for rounding: spans have whole µs.
	resolvedBefore = -2 * time.Microsecond
	// insertWithin is how soon INSERT follows UPDATE; between the two lightningd only
	// stores a counter. Measured: within 0.2 ms.
	insertWithin = 5 * time.Millisecond
	// closeWait is how long a forward that has ended may still be joined: longer than
	// joinWait and a second look.
	closeWait = 850 * time.Millisecond
	// maxEnded bounds the forwards that have ended and wait: some 5,000 a second.
	maxEnded = 4096
	// maxAge is how old a forward can be: its HTLC times out after 2,016 blocks or so.
	maxAge = 60 * 24 * time.Hour
)

type forwardKey struct {
	in   cln.Channel
	htlc uint64
}

// forward is a forward that was seen to begin, or to end.
type forward struct {
	last  cln.Forward // the last event, and what earlier ones had said
	began time.Time   // arrival of the first event
	ended time.Time   // arrival of the last one

	offered bool      // an event said so
	offer   time.Time // when; zero: not joined
	exact   bool      // offer is the time of a span
	end     time.Time // zero: not known, or in last.Resolved
	gone    bool      // clntrace ends before it does
}

// start is when it began, as well as that is known.
func (f *forward) start() time.Time {
	if f.last.Received != 0 {
		return time.Unix(0, f.last.Received)
	}
	return f.began
}

// change is a statement with which lightningd has recorded an event.
type change struct {
	start, end int64 // µs
	created    bool  // a forward that is new
}

// forwardEvent is a forward_event.
type forwardEvent struct {
	forward  *forward
	at       time.Time
	received int64 // ns; 0: not known
	resolved int64 // ns; 0: not known
	created  bool
}

func matchChange(c *change, e *forwardEvent) bool {
	if !within(since(c.start, e.at), -clockSlack, maxLag) || c.created != e.created {
		return false
	}
	start := c.start * int64(time.Microsecond)
	if e.resolved != 0 {
		return within(time.Duration(start-e.resolved), resolvedBefore, resolvedSlack)
	}
	return start >= e.received
}

func (t *Tracker) forwardChanges(e cln.Forward, at time.Time) {
	e = plausible(e, at)
	key := forwardKey{e.In, e.InHTLC}
	f, known := t.forwards.Peek(key)
	if !known {
		t.state.Forwards++
		f = &forward{began: at}
	}
	f.learn(e)
	created := e.Created != 0 || e.Updated == 0 && !known
	t.missed(f, at)
	t.changes.Notification(&forwardEvent{forward: f, at: at, received: e.Received, resolved: e.Resolved, created: created}, at)
	if e.Status == cln.ForwardOffered {
		f.offered = true
		t.hold(key, f, at)
		return
	}
	t.forwards.Remove(key)
	f.ended = at
	if e.Status != cln.ForwardSettled {
		t.state.ForwardsFailed++
	}
	if len(t.ended) >= maxEnded {
		t.finish(t.ended[0])
		t.ended = t.ended[1:]
	}
	t.ended = append(t.ended, f)
}

// plausible drops times that would make spans of years.
func plausible(e cln.Forward, at time.Time) cln.Forward {
	now := at.UnixNano()
	possible := func(ns int64) bool { return ns > now-int64(maxAge) && ns <= now+int64(clockSlack) }
	if !possible(e.Received) {
		e.Received = 0
	}
	if !possible(e.Resolved) || e.Resolved < e.Received {
		e.Resolved = 0
	}
	return e
}

// learn notes what an event says, and keeps what earlier ones said and it does not.
func (f *forward) learn(e cln.Forward) {
	before := f.last
	f.last = e
	if e.Hash == (cln.Hash{}) {
		f.last.Hash = before.Hash
	}
	if e.Received == 0 {
		f.last.Received = before.Received
	}
	if e.Out == 0 {
		f.last.Out, f.last.OutMsat, f.last.FeeMsat = before.Out, before.OutMsat, before.FeeMsat
	}
}

// hold keeps an open forward.
func (t *Tracker) hold(key forwardKey, f *forward, at time.Time) {
	if f.offer.IsZero() {
		f.offer = at
	}
	if !t.forwards.Contains(key) && t.forwards.Len() >= maxForwards {
		t.state.Dropped++
		t.forwards.RemoveOldest()
	}
	t.forwards.Add(key, f)
}

// missed notes where events of new forwards did not come: they are numbered.
func (t *Tracker) missed(f *forward, at time.Time) {
	number := f.last.Created
	if number == 0 {
		return
	}
	if last := t.lastNumber; last != 0 && number > last+1 {
		if t.lastOffer != nil {
			t.lastOffer.exact = false // its span may be that of the one that did not come
		}
		for range min(number-last-1, maxMissing) {
			t.changes.Missing(&forwardEvent{at: at, created: true}, t.lastNew, at)
		}
	}
	t.lastNumber, t.lastOffer, t.lastNew = number, f, at
}

func (t *Tracker) joinForwards(now time.Time, all bool) {
	r := t.changes.Look(now, all)
	for _, pair := range r.Pairs {
		f, start := pair.Notification.forward, time.UnixMicro(pair.Span.start)
		switch {
		case pair.Notification.created && f.offered:
			f.offer, f.exact = start, true
		case pair.Notification.resolved == 0:
			f.end = start
		}
	}
	for _, e := range r.Notifications {
		if e.created {
			t.state.Unjoined++
		}
	}
}

// closeForwards gives the forwards that have ended.
func (t *Tracker) closeForwards(now time.Time, all bool) {
	for len(t.ended) > 0 && (all || now.Sub(t.ended[0].ended) >= closeWait) {
		t.finish(t.ended[0])
		t.ended[0] = nil
		t.ended = t.ended[1:]
	}
}

// abandonForwards gives the open forwards as they are.
func (t *Tracker) abandonForwards(now time.Time) {
	for _, f := range t.forwards.Values() {
		f.ended, f.gone = now, true
		t.ended = append(t.ended, f)
	}
	t.forwards.Purge()
}

// finish gives a forward and its phases, as spans and observations.
func (t *Tracker) finish(f *forward) {
	start, end, approximate := f.start(), f.end, false
	switch {
	case f.last.Resolved != 0 && f.last.Status != cln.ForwardOffered:
		end = time.Unix(0, f.last.Resolved)
	case end.IsZero():
		end, approximate = f.ended, !f.gone
	}
	whole := Span{
		Facts: Facts{Kind: KindForward, Approximate: approximate, Attributes: f.attributes()}, Program: programNode,
		ID: t.forwardSpanID(KindForward, f), Start: start, End: end, hash: f.last.Hash,
	}
	fails := func(s *Span) {
		if f.last.Status == cln.ForwardFailed || f.last.Status == cln.ForwardLocalFailed {
			s.ErrorType, s.Reason = errorType(f.last.Reason), ""
			s.Attributes = append(s.Attributes, keyErrorType.text(s.ErrorType))
		}
	}
	phase := func(kind Kind, from, to time.Time, approximate bool) Span {
		return Span{
			Facts: Facts{Kind: kind, Approximate: approximate}, Program: programNode,
			ID: t.forwardSpanID(kind, f), ParentID: whole.ID, Start: from, End: to, hash: f.last.Hash,
		}
	}
	fails(&whole)
	switch {
	case f.offered:
		offer := clamp(f.offer, start, end)
		t.give(f, phase(KindAccept, start, offer, !f.exact), false)
		downstream := phase(KindDownstream, offer, end, !f.exact || approximate)
		fails(&downstream)
		t.give(f, downstream, f.gone)
	case f.last.Created != 0: // it was never offered
		accept := phase(KindAccept, start, end, approximate)
		fails(&accept)
		t.give(f, accept, false)
	}
	t.give(f, whole, f.gone)
}

func clamp(at, low, high time.Time) time.Time {
	switch {
	case at.Before(low):
		return low
	case at.After(high):
		return high
	}
	return at
}

// give gives a span of a forward, and if it has ended its observation.
func (t *Tracker) give(f *forward, s Span, incomplete bool) {
	o := Observation{Kind: s.Kind, Program: programNode, Channel: f.last.Out, Outcome: string(f.last.Status), Duration: max(s.End.Sub(s.Start), 0)}
	switch {
	case s.ErrorType != "":
		o.Outcome, o.Failed = s.ErrorType, true
	case s.Kind == KindAccept:
		o.Outcome = string(cln.ForwardOffered)
	}
	s.Incomplete, s.Channel, s.Outcome = incomplete, o.Channel, o.Outcome
	t.add(s)
	if !incomplete {
		t.observe(o)
	}
}

func (t *Tracker) forwardSpanID(kind Kind, f *forward) trace.SpanID {
	return t.ids.spanID(kind, numbers(uint64(f.last.In), f.last.InHTLC))
}

func (f *forward) attributes() []Attribute {
	e := &f.last
	list := []Attribute{keyForwardStatus.text(string(e.Status))}
	list = append(list, hashAttributes(e.Hash, 0)...)
	list = append(list, keyInChannel.text(e.In.String()), keyInMsat.msat(e.InMsat))
	if e.Out != 0 {
		list = append(list, keyOutChannel.text(e.Out.String()))
	}
	if e.OutMsat != 0 { // not said of a forward that failed here
		list = append(list, keyOutMsat.msat(e.OutMsat), keyForwardFee.msat(e.FeeMsat))
	}
	return list
}
