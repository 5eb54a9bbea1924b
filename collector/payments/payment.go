package payments

import (
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
)

const (
	outcomeSuccess = "success"
	outcomeUnknown = "unknown" // nobody will know
	// successQuiet is how long after its last part a payment that has succeeded is
	// over: when that part has been joined.
	successQuiet = time.Second
	// failureQuiet is the same for one that has failed, and may be tried again.
	failureQuiet = 5 * time.Second
	// maxTogether bounds the payments of one request.
	maxTogether = 16
)

// payment is all parts of one attempt to pay.
type payment struct {
	id                               cln.Part // Number is 0
	total                            uint64   // msat
	parts, failed, succeeded, unsure int
	open                             int
	highest                          uint64    // number of a part
	began                            time.Time // when the last part did
	skipped                          bool      // the start of a part did not come
	start, end                       time.Time // zero: not known yet
	last                             time.Time // when something was last heard of it
	reason, errorType                string    // of the last part that failed
	request                          RequestID
}

// payment returns the payment of a part.
func (t *Tracker) payment(p cln.Part, at time.Time) *payment {
	id := cln.Part{Hash: p.Hash, Group: p.Group}
	if known, ok := t.payments.Peek(id); ok {
		known.last = at
		return known
	}
	if t.payments.Len() >= maxPayments {
		t.state.Dropped++
		_, oldest, _ := t.payments.RemoveOldest()
		t.report(oldest, at)
	}
	q := &payment{id: id, last: at}
	t.payments.Add(id, q)
	return q
}

func (p *payment) begin(e cln.PartStart, at time.Time) {
	p.began = at
	p.parts++
	p.open++
	p.total = max(p.total, e.TotalMsat)
	p.highest = max(p.highest, e.Number)
}

func (p *payment) finish(r *PartResult, at time.Time) {
	p.open--
	p.last = at
	if r.Success {
		p.succeeded++
		return
	}
	p.failed++
	p.errorType, p.reason = r.ErrorType, r.Reason
}

// abandon ends parts of which nobody knows how they have ended.
func (p *payment) abandon(parts int, at time.Time) {
	p.open -= parts
	p.unsure += parts
	p.last = at
}

// lasted notes when a part began and ended.
func (p *payment) lasted(start, end time.Time) {
	if p.start.IsZero() || start.Before(p.start) {
		p.start = start
	}
	if end.After(p.end) {
		p.end = end
	}
}

func (p *payment) over(now time.Time) bool {
	quiet := failureQuiet
	if p.succeeded > 0 {
		quiet = successQuiet
	}
	return p.open <= 0 && now.Sub(p.last) >= quiet
}

// bind notes which request has made a payment.
func (t *Tracker) bind(p *payment, request RequestID) {
	if request == (RequestID{}) || p.request != (RequestID{}) {
		return
	}
	p.request = request
	list, _ := t.requests.Get(request)
	if len(list) < maxTogether {
		t.requests.Add(request, append(list, p))
	}
}

// closePayments gives the payments that are over.
func (t *Tracker) closePayments(now time.Time, all bool) {
	if !all && now.Sub(t.looked) < joinWait/4 {
		return
	}
	t.looked = now
	for _, p := range t.payments.Values() {
		if all || p.over(now) {
			t.payments.Remove(p.id)
			t.report(p, now)
		}
	}
}

// report gives a payment as a span and an observation.
func (t *Tracker) report(p *payment, now time.Time) {
	if p.start.IsZero() {
		p.start = p.last
	}
	if p.end.IsZero() {
		p.end = now
	}
	s := Span{
		Facts: Facts{Kind: KindPayment, Attributes: p.attributes()}, Program: programSends,
		ID: t.paymentSpanID(p), Start: p.start, End: p.end, hash: p.id.Hash,
		Request: p.request, Incomplete: p.unsure > 0 && p.succeeded == 0,
	}
	o := Observation{Kind: KindPayment, Program: programSends, Outcome: outcomeSuccess, Duration: p.end.Sub(p.start)}
	switch {
	case s.Incomplete:
		o.Outcome = outcomeUnknown
	case p.succeeded == 0:
		s.ErrorType, s.Reason = p.errorType, p.reason
		s.Attributes = append(s.Attributes, keyErrorType.text(p.errorType))
		o.Outcome, o.Failed = p.errorType, true
	}
	s.Attributes = append(s.Attributes, hashAttributes(p.id.Hash, p.id.Group)...)
	s.Outcome = o.Outcome
	t.add(s)
	t.observe(o)
}

func (t *Tracker) paymentSpanID(p *payment) trace.SpanID {
	return t.ids.spanID(KindPayment, append(numbers(p.id.Group), p.id.Hash[:]...))
}

func (p *payment) attributes() []Attribute {
	list := []Attribute{keyParts.number(p.parts), keyFailedParts.number(p.failed)}
	if p.total != 0 { // not known of one that began before we did
		list = append(list, keyAmount.msat(p.total))
	}
	return list
}

// Request is what is known of the payments of one request.
type Request struct {
	Open bool // a part of them has not ended
	// Failed says that they have ended, and no part has succeeded; Succeeded that one
	// has. Neither: nobody knows.
	Failed, Succeeded bool
	Attributes        []Attribute // of the root of the request
	Payments          []Ref       // the spans of the payments
}

// Request returns what is known of the payments of a request. ok is false if it is
// not known to have made any.
func (t *Tracker) Request(id RequestID) (r Request, ok bool) {
	list, ok := t.requests.Peek(id)
	if !ok {
		return r, false
	}
	var all payment
	for _, p := range list {
		all.parts += p.parts
		all.failed += p.failed
		all.succeeded += p.succeeded
		all.unsure += p.unsure
		all.open += p.open
		all.total += p.total
		all.id = p.id
		r.Payments = append(r.Payments, Ref{t.ids.traceID(p.id.Hash, t.mode), t.paymentSpanID(p)})
	}
	r.Open = all.open > 0
	r.Succeeded = all.succeeded > 0
	r.Failed = all.failed > 0 && all.succeeded+all.unsure+all.open == 0
	r.Attributes = slices.Concat(all.attributes(), hashAttributes(all.id.Hash, 0))
	return r, true
}

// HasOpen reports whether a part of the payments of a request has not ended, or one that
// may be of this request or of another one.
func (t *Tracker) HasOpen(id RequestID) bool {
	list, _ := t.requests.Peek(id)
	return slices.ContainsFunc(list, func(p *payment) bool { return p.open > 0 }) || t.isSuspected(id)
}

// HasPaid reports whether parts of the payments of a request are known, ended or not.
func (t *Tracker) HasPaid(id RequestID) bool { return t.requests.Contains(id) }

// invoicePaid gives the payment of an invoice of ours.
func (t *Tracker) invoicePaid(e cln.InvoicePaid, at time.Time) {
	f := Facts{Kind: KindInvoicePaid, Attributes: hashAttributes(e.Hash, 0)}
	if e.AmountMsat != 0 {
		f.Attributes = append(f.Attributes, keyAmount.msat(e.AmountMsat))
	}
	id := t.ids.spanID(KindInvoicePaid, numbers(uint64(at.UnixNano()))) //nolint:gosec // any number
	t.add(Span{Facts: f, Program: programNode, ID: id, Start: at, End: at, hash: e.Hash})
}
