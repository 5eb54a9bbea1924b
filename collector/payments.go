package collector

import (
	"slices"
	"sync"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/payments"
	"clntrace/collector/process"
	"clntrace/collector/stats"
	"clntrace/collector/zipkin"
)

// tracked is the Tracker of payments, which the decoder drives and Stats reads.
type tracked struct {
	mu      sync.Mutex
	tracker *payments.Tracker
}

func newTracked() tracked { return tracked{tracker: payments.New()} }

// payer is what the decoder knows of payments.
type payer struct {
	node    int32                        // pid of lightningd; 0: unknown
	senders map[string]*process.Identity // by program
	waiting map[*correlate.Span]bool     // for a notification; true: for nothing else any more
	came    []*correlate.Span            // whose wait for a notification is over, and that wait for nothing else
	added   []*correlate.Span            // payments and forwards
}

func newPayer(node int32) payer {
	return payer{node: node, senders: make(map[string]*process.Identity), waiting: make(map[*correlate.Span]bool)}
}

// ofNode reports whether p is our lightningd or one of its plugins: notifications are
// only about them.
func (y *payer) ofNode(p *process.Identity) bool {
	return y.node == 0 || p.PID == y.node || p.ParentPID == y.node
}

// related tells the Tracker of a span whose ids are known.
func (d *decoder) related(s *correlate.Span, now time.Time) {
	if !payments.Concerns(&s.Span, s.Process.Name) || !d.payer.ofNode(s.Process) {
		return
	}
	d.payer.senders[s.Process.Name] = s.Process
	var request payments.RequestID
	if s.Request != "" {
		if _, ok := d.correlator.Root(s.TraceID); ok {
			request = s.TraceID
		}
	}
	from := payments.Sender{Program: s.Process.Name, PID: s.Process.PID, StartTime: s.Process.StartTime}
	d.payments.mu.Lock()
	waits := d.payments.tracker.Observe(&s.Span, from, request, s, now)
	d.payments.mu.Unlock()
	if waits {
		d.payer.waiting[s] = false
	}
}

// notice tells the Tracker of the notifications that have come.
func (d *decoder) notice(first notified) {
	d.payments.mu.Lock()
	defer d.payments.mu.Unlock()
	d.payments.tracker.SetMode(d.policy.Load().Payments())
	d.payments.tracker.Notify(first.event, first.at)
	for range len(d.intake.waiting) {
		n := <-d.intake.waiting // nobody else takes them
		d.payments.tracker.Notify(n.event, n.at)
	}
}

// noticed tells of what came while we were busy with something else.
func (d *decoder) noticed() {
	select {
	case n := <-d.intake.waiting:
		d.notice(n)
	default:
	}
}

// expirePayments ends waits for notifications that are over, all of them if the end has
// come, and takes what has been found out.
func (d *decoder) expirePayments(now time.Time, end bool) {
	d.noticed()
	d.payments.mu.Lock()
	t := d.payments.tracker
	t.SetMode(d.policy.Load().Payments())
	t.Drop(d.intake.lost.Swap(0))
	if end {
		t.Flush(now)
	} else {
		t.Advance(now)
	}
	out := t.Take()
	d.payments.mu.Unlock()
	for _, j := range out.Joined {
		d.join(j)
	}
	for i := range out.Spans {
		d.payer.added = append(d.payer.added, d.addedSpan(&out.Spans[i]))
	}
	d.countPayments(out.Observations)
}

// join adds to a span what notifications say of it.
func (d *decoder) join(j payments.Joined) {
	s := j.Ref.(*correlate.Span) // related gives no other type
	if j.Part != nil {
		s.Payment = j.Part.Facts()
	}
	s.Height = j.Height
	if d.payer.waiting[s] {
		d.payer.came = append(d.payer.came, s)
	}
	delete(d.payer.waiting, s)
}

// afterPayments takes out of ready what waits for a notification, adds what has waited
// for one and what was made of notifications, and adds to roots what is known of their
// payments. What was made of notifications and is for the node alone is recorded.
func (d *decoder) afterPayments(ready []*correlate.Span, now time.Time) []*correlate.Span {
	ready = slices.DeleteFunc(ready, func(s *correlate.Span) bool {
		_, waits := d.payer.waiting[s]
		if waits {
			d.payer.waiting[s] = true
		}
		return waits
	})
	for _, s := range ready {
		if s.Synthetic {
			d.describeRoot(s)
		}
	}
	ready = append(ready, d.payer.came...)
	d.payer.came = d.payer.came[:0]
	if d.policy.Load().Payments() >= payments.Outcomes {
		ready = append(ready, d.payer.added...)
	} else {
		d.safely(func() { d.record(d.payer.added, now) })
	}
	d.payer.added = d.payer.added[:0]
	return ready
}

// describeRoot adds to the root of a request what is known of its payments.
func (d *decoder) describeRoot(root *correlate.Span) {
	d.payments.mu.Lock()
	r, ok := d.payments.tracker.Request(root.TraceID)
	d.payments.mu.Unlock()
	if !ok || d.policy.Load().Payments() == payments.Off {
		return
	}
	root.Payment = &payments.Facts{Kind: payments.KindRoot, Attributes: r.Attributes, Paid: r.Succeeded, Unpaid: r.Failed}
	if d.policy.Load().Payments() >= payments.Outcomes {
		for _, p := range r.Payments {
			root.Links = append(root.Links, correlate.Link{Relation: correlate.ForPayment, TraceID: p.TraceID, SpanID: p.SpanID})
		}
	}
}

// addedSpan makes a span of one that nobody sent.
func (d *decoder) addedSpan(p *payments.Span) *correlate.Span {
	s := &correlate.Span{
		Span: zipkin.Span{
			TraceID: p.TraceID, ID: p.ID, ParentID: p.ParentID, Name: string(p.Kind), ServiceName: cln.Daemon,
			Timestamp: p.Start.UnixMicro(), Duration: p.End.UnixMicro() - p.Start.UnixMicro(),
		},
		Process: d.payer.program(p.Program), Synthetic: true, Incomplete: p.Incomplete, Payment: &p.Facts,
	}
	if p.ErrorType != "" {
		s.Tags = []zipkin.Tag{{Key: cln.TagError, Value: cln.True}}
	}
	if root, ok := d.correlator.Root(p.Request); ok {
		s.Links = []correlate.Link{{Relation: correlate.ByRequest, TraceID: p.Request, SpanID: root}}
	}
	return s
}

// program returns the process of that name, or one of which nothing else is known.
func (y *payer) program(name string) *process.Identity {
	if p := y.senders[name]; p != nil {
		return p
	}
	p := &process.Identity{Name: name}
	if name == cln.Daemon {
		p.PID = y.node
	}
	y.senders[name] = p
	return p
}

// countPayments tells the statistics and the metrics.
func (d *decoder) countPayments(list []payments.Observation) {
	if len(list) == 0 {
		return
	}
	p := d.policy.Load()
	if p.Payments() == payments.Off {
		return // since a moment ago
	}
	rows := make([]stats.Observation, len(list))
	for i, o := range list {
		rows[i] = stats.Observation{
			Process: d.payer.program(o.Program), Span: string(o.Kind), Detail: p.PaymentDetail(o.Channel, o.Outcome),
			Duration: o.Duration, Failed: o.Failed,
		}
	}
	d.table.ObservePayments(rows)
	if m := d.metrics.Load(); m != nil && p.Payments() >= payments.Outcomes {
		m.ObservePayments(list)
	}
}

// requestPayments tells the correlator what notifications say of requests.
type requestPayments struct{ *Collector }

var _ correlate.Payments = requestPayments{}

// Open reports whether a part of the request's payments has not ended, and whether any is
// known.
func (r requestPayments) Open(q correlate.Request) (open, known bool) {
	r.payments.mu.Lock()
	defer r.payments.mu.Unlock()
	return r.payments.tracker.HasOpen(q.TraceID), r.payments.tracker.HasPaid(q.TraceID)
}

// Outcome returns whether the request has paid.
func (r requestPayments) Outcome(q correlate.Request) correlate.Outcome {
	if r.policy.Load().Payments() < payments.Outcomes { // nothing of a notification may show
		return correlate.OutcomeUnknown
	}
	r.payments.mu.Lock()
	defer r.payments.mu.Unlock()
	switch known, _ := r.payments.tracker.Request(q.TraceID); {
	case known.Succeeded:
		return correlate.OutcomeSucceeded
	case known.Failed:
		return correlate.OutcomeFailed
	}
	return correlate.OutcomeUnknown
}

// paymentState is what Stats tells of payments. It is nil if nothing is made of them,
// or no notifications come.
func (c *Collector) paymentState(now time.Time) *payments.State {
	if c.policy.Load().Payments() == payments.Off || !c.options.Notified {
		return nil
	}
	c.payments.mu.Lock()
	defer c.payments.mu.Unlock()
	s := c.payments.tracker.State(now)
	return &s
}

// exportedPayments is what metrics tell of payments; false: nothing.
func (c *Collector) exportedPayments() (payments.State, bool) {
	if c.policy.Load().Payments() < payments.Outcomes {
		return payments.State{}, false
	}
	s := c.paymentState(c.now())
	if s == nil {
		return payments.State{}, false
	}
	return *s, true
}
