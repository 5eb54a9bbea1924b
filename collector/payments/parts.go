package payments

import (
	"sort"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/zipkin"
)

// cln-xpay is one thread. For each part of a payment it reserves the route, and when
// askrene-reserve has been answered it sends pay_part_start, and begins the request
// injectpaymentonion, before it looks at the next answer. So the k-th pay_part_start
// is that of the k-th askrene-reserve that has ended, and the injectpaymentonion that
// began next; and the k-th pay_part_end is that of the k-th injectpaymentonion that
// has ended. Both ways to find a part's span have to agree.

const (
	// partSlack is by how much xpay's duration may exceed that of the span. Measured:
	// 19 to 1,005 µs, and once 98 ms, when the process had lost the processor.
	partSlack = 1500 * time.Microsecond
	// knownSlack is the same where the part's start is known to be that of the span. It
	// only makes for alternatives: of the pair that is left, more than usualSlack has
	// to be explained. A process that loses the processor has it back after that.
	knownSlack = 200 * time.Millisecond
	usualSlack = 20 * time.Millisecond
	// startBefore and startAfter say when pay_part_start may come, counted from the
	// start of the span. Measured: 0.1 to 453 ms.
	startBefore = -10 * time.Millisecond
	startAfter  = time.Second
	// maxReserves bounds the askrene-reserve requests that are remembered, with which
	// the start of a part is found.
	maxReserves = 4096
)

// part is a part of a payment that has begun.
type part struct {
	start    cln.PartStart
	at       time.Time // when pay_part_start came
	since    time.Time
	reserved int64 // when its route was reserved, µs; 0: not known
	payment  *payment
	suspects []RequestID // one of which it may be of, if its payment's is not known
}

// reserve is an askrene-reserve request of cln-xpay.
type reserve struct {
	end     int64 // µs
	request RequestID
}

// reserves are the ends of the last askrene-reserve requests, in order.
type reserves struct{ ends []int64 }

func (r *reserves) add(end int64) {
	if len(r.ends) >= maxReserves {
		r.ends = append(r.ends[:0], r.ends[maxReserves/2:]...)
	}
	r.ends = append(r.ends, end)
}

// before returns when the last one before a time ended, or 0.
func (r *reserves) before(us int64) int64 {
	i := sort.Search(len(r.ends), func(i int) bool { return r.ends[i] > us })
	if i == 0 {
		return 0
	}
	return r.ends[i-1]
}

// partSpan is an injectpaymentonion request of cln-xpay.
type partSpan struct {
	start, end int64 // µs
	failed     bool
	reserved   int64 // the last reserve before it, µs; 0: not known
	request    RequestID
	ref        any
}

// partEnd is a pay_part_end.
type partEnd struct {
	cln.PartEnd
	at      time.Time
	part    *part // nil: how it began is not known
	payment *payment
	result  *PartResult
}

// observeSender looks for what tells when a part of a payment began and ended.
func (t *Tracker) observeSender(s *zipkin.Span, from Sender, request RequestID, ref any, now time.Time) (waits bool) {
	if s.Name != cln.SpanRequest {
		return false
	}
	t.runs(from, now)
	_, method := cln.Path(s.Tag(cln.TagID)).Last()
	t.suspected = nil
	t.asked(s, method, request)
	switch method {
	case cln.MethodReserve:
		r := &reserve{end: s.Timestamp + s.Duration, request: request}
		t.reserves.add(r.end)
		t.starts.Span(r, now)
	case cln.MethodSendPart:
		p := &partSpan{start: s.Timestamp, end: s.Timestamp + s.Duration, failed: s.Failed(), request: request}
		if waits = t.mode > Off; waits {
			p.ref = ref
		}
		t.ends.Span(p, now)
	}
	return waits
}

// runs notes which cln-xpay runs. Parts of another one have no end.
func (t *Tracker) runs(from Sender, now time.Time) {
	if from.StartTime == 0 || from == t.sender {
		return
	}
	if t.sender.StartTime != 0 {
		t.join(now, true)
		t.abandonParts(now)
		t.reserves.ends = t.reserves.ends[:0]
		t.asks = t.asks[:0]
	}
	t.sender = from
}

func (t *Tracker) partBegins(e cln.PartStart, at time.Time) {
	t.state.Parts++
	if t.parts.Contains(e.Part) {
		t.state.Dropped++ // a second start of the same part tells nothing new
		return
	}
	if t.parts.Len() >= maxParts {
		t.state.Dropped++
		_, oldest, _ := t.parts.RemoveOldest()
		oldest.payment.abandon(1, at)
	}
	p := &part{start: e, at: at, since: at, payment: t.payment(e.Part, at)}
	missing := int64(e.Number) - int64(p.payment.highest) - 1 //nolint:gosec // a wrap is bounded below
	p.payment.skipped = p.payment.skipped || missing > 0
	for range min(missing, maxMissing) {
		t.starts.Missing(p, p.payment.began, at)
	}
	p.payment.begin(e, at)
	t.parts.Add(e.Part, p)
	t.starts.Notification(p, at)
}

func matchStart(r *reserve, p *part) bool {
	return len(p.start.Hops) > 0 && within(since(r.end, p.at), -clockSlack, maxLag)
}

func (t *Tracker) joinStarts(now time.Time, all bool) {
	r := t.starts.Look(now, all)
	for _, pair := range r.Pairs {
		p := pair.Notification
		p.reserved = pair.Span.end
		p.since = time.UnixMicro(p.reserved)
		t.bind(p.payment, pair.Span.request)
	}
	for _, p := range r.Notifications {
		t.suspect(p)
	}
}

func (t *Tracker) partEnds(e cln.PartEnd, at time.Time) {
	if t.closed.Remove(e.Part) {
		return // its span has said so
	}
	p, known := t.parts.Peek(e.Part)
	if !known {
		t.state.Parts++ // it began before we did
		p = nil
	}
	end := &partEnd{PartEnd: e, at: at, part: p, result: newPartResult(p, e)}
	if known {
		end.payment = p.payment
		t.parts.Remove(e.Part)
	} else {
		end.payment = t.payment(e.Part, at)
		end.payment.parts++
		end.payment.open++
	}
	t.count(end, e.Duration)
	t.ends.Notification(end, at)
}

// count counts a part that has ended.
func (t *Tracker) count(end *partEnd, took time.Duration) {
	end.payment.finish(end.result, end.at)
	r := end.result
	if !r.Success {
		t.state.Failed++
	}
	t.observe(Observation{
		Kind: KindPart, Program: programSends, Channel: r.channel(), Outcome: r.outcome(), Duration: took, Failed: !r.Success,
	})
}

// matchEnd reports whether a span may be that of the part that has ended.
func (t *Tracker) matchEnd(s *partSpan, e *partEnd) bool {
	if s.failed == e.Success || !within(since(s.end, e.at), -clockSlack, maxLag) {
		return false
	}
	if s.reserved == 0 {
		s.reserved = t.reserves.before(s.start)
	}
	slack := partSlack
	if p := e.part; p != nil {
		if !within(since(s.start, p.at), startBefore, startAfter) || !sameRequest(s, p) {
			return false
		}
		if p.reserved != 0 && s.reserved != 0 {
			if p.reserved != s.reserved {
				return false
			}
			slack = knownSlack
		}
	}
	return within(e.Duration-time.Duration(s.end-s.start)*time.Microsecond, -2*time.Microsecond, slack)
}

// unexplained is by how much xpay's duration exceeds that of the span, but for what may
// have passed between the reserve, before which xpay does not begin to count, and the
// start of the span: the process may have lost the processor there.
func unexplained(s *partSpan, e *partEnd) time.Duration {
	from := s.start
	if s.reserved != 0 {
		from = s.reserved
	}
	return e.Duration - time.Duration(s.end-from)*time.Microsecond
}

func sameRequest(s *partSpan, p *part) bool {
	none := RequestID{}
	return s.request == none || p.payment.request == none || s.request == p.payment.request
}

// doubtEnd reports whether the span might as well be that of a part whose end has not
// come. The parts of a payment often end together; that one of them has not ended
// yet may mean that its notification was lost. So may a notification that is late, or
// a duration that is not the span's.
func (t *Tracker) doubtEnd(s *partSpan, e *partEnd) bool {
	if e.part == nil && s.reserved != 0 {
		return true // the part began before we did, and the span did not
	}
	if since(s.end, e.at) > usualLag || unexplained(s, e) > usualSlack {
		return true
	}
	if e.part != nil && e.part.reserved != 0 && s.reserved != 0 {
		return false
	}
	return e.payment.skipped || len(t.openLike(s, 1)) > 0
}

// openLike returns open parts whose span s may be, at most limit of them.
func (t *Tracker) openLike(s *partSpan, limit int) (list []*part) {
	for _, p := range t.parts.Values() {
		if !within(since(s.start, p.at), startBefore, startAfter) || !sameRequest(s, p) {
			continue
		}
		if p.reserved != 0 && s.reserved != 0 && p.reserved != s.reserved {
			continue
		}
		if list = append(list, p); len(list) == limit {
			break
		}
	}
	return list
}

func (t *Tracker) joinEnds(now time.Time, all bool) {
	r := t.ends.Look(now, all)
	for _, pair := range r.Pairs {
		s, e := pair.Span, pair.Notification
		t.bind(e.payment, s.request)
		e.payment.lasted(time.UnixMicro(s.start), time.UnixMicro(s.end))
		t.joined(Joined{Ref: s.ref, Part: e.result})
	}
	for _, e := range r.Notifications {
		t.state.Unjoined++
		e.payment.lasted(e.at.Add(-e.Duration), e.at)
	}
	for _, s := range r.Spans {
		t.joined(Joined{Ref: s.ref})
		if s.failed {
			t.failedSilently(s, now)
		}
	}
}

// failedSilently ends the part whose span has failed although no notification says
// so: xpay sends none if the request fails with another error than the onion's, for
// example because the invoice has been paid already. Without this the part would be
// open for ever. If it is not certain which part that is, it stays open.
func (t *Tracker) failedSilently(s *partSpan, now time.Time) {
	if s.reserved == 0 {
		s.reserved = t.reserves.before(s.start)
	}
	list := t.openLike(s, 2)
	if len(list) != 1 || s.reserved == 0 || list[0].reserved != s.reserved {
		return
	}
	p := list[0]
	t.parts.Remove(p.start.Part)
	t.closed.Add(p.start.Part, struct{}{})
	e := cln.PartEnd{Part: p.start.Part, Duration: time.Duration(s.end-s.start) * time.Microsecond}
	t.count(&partEnd{PartEnd: e, at: now, part: p, payment: p.payment, result: newPartResult(p, e)}, e.Duration)
	p.payment.lasted(time.UnixMicro(s.start), time.UnixMicro(s.end))
	t.bind(p.payment, s.request)
}

// abandonParts ends the open parts, of which no end will be known.
func (t *Tracker) abandonParts(now time.Time) {
	for _, p := range t.parts.Values() {
		p.payment.abandon(1, now)
		p.payment.lasted(p.since, now)
	}
	t.parts.Purge()
}
