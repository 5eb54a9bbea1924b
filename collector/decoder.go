package collector

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/defect"
	"clntrace/collector/metrics"
	"clntrace/collector/parents"
	"clntrace/collector/policy"
	"clntrace/collector/process"
	"clntrace/collector/socket"
	"clntrace/collector/spool"
	"clntrace/collector/stats"
	"clntrace/collector/zipkin"
)

const (
	// tickInterval is how often the decoder looks for waits that are over. Some of them
	// may take 1 s at most.
	tickInterval = 100 * time.Millisecond
	// batchLen is how many datagrams are decoded at once: few enough to return their
	// room in the ring soon, and enough to share the cost of booking and submitting.
	batchLen = 512
)

// decoder takes spans down the street, from the socket to the export. It is what the
// decoding goroutine knows; a room that other goroutines enter, too, is in the
// Collector.
type decoder struct {
	*Collector
	zipkin     zipkin.Decoder
	processes  *process.Resolver
	details    cln.Reader
	parents    *parents.Awaited
	correlator *correlate.Correlator
	judged     *policy.Policy // the one of which recorded is
	recorded   *policy.Policy // by which the recorder was last given spans: what judged shows on the node
	above      above
	payer      payer

	begun     bool              // Start was called
	held      []*correlate.Span // until then
	datagrams []socket.Datagram
	batch     batch
	watched   time.Time // when growth was last looked for
	swept     time.Time // when the recorder last ended waits
	minute    time.Time // when the last minute of traffic ended
	decided   bool      // spans have come to the policy's verdict since
}

// batch is what has become of the datagrams that are decoded together. Its memory is
// used again for the next ones.
type batch struct {
	counts       stats.Counts
	observations []stats.Observation
	spans        []*correlate.Span // for which there is room
}

func newDecoder(c *Collector) *decoder {
	d := &decoder{Collector: c, processes: process.NewResolver("/proc")}
	var o correlate.Options
	o.KnownTrace, o.KnownParent = traceParent(c.options.TraceParent)
	d.above = above{o.KnownTrace, o.KnownParent}
	node := int32(c.options.Lightningd)                                //nolint:gosec // pids fit
	if daemon := d.processes.Ancestor(node, cln.Daemon); daemon != 0 { // which a wrapper may hide
		node, o.RunIsCertain = daemon, true
	}
	if start, err := d.processes.StartTime(node); err == nil {
		o.Run = correlate.Run{PID: node, StartTime: start}
	}
	o.Defect = c.noteDefect
	o.Payments, o.Related = requestPayments{c}, d.related
	d.payer = newPayer(node)
	o.Origin, o.Unknown, o.Child = process.Origin(), d.unknownRun, d.processes.Child
	o.Parent = func(r correlate.Run) correlate.Run {
		pid, start := d.processes.Parent(r.PID, r.StartTime)
		return correlate.Run{PID: pid, StartTime: start}
	}
	o.Sampled = func(id trace.TraceID) bool { return c.policy.Load().Samples(id) }
	d.parents, d.correlator = parents.New(o.KnownParent), correlate.New(o)
	return d
}

// unknownRun returns what ids hold of senders whose process is not known. As long as
// the spool stands, it is the same after a restart.
func (d *decoder) unknownRun() []byte {
	if s := d.pipeline.Spool(); s.Limit > 0 {
		token, err := spool.Token(s.Dir, d.options.Voice)
		if err == nil {
			return token
		}
		d.log.Info("after a restart, requests of processes that are not known will have other ids", "error", err)
	}
	return []byte(rand.Text())
}

// decode is the decoding goroutine.
func (c *Collector) decode() {
	defer close(c.decoding)
	if c.receiver == nil {
		return
	}
	d := newDecoder(c)
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	begin, notices := c.begin, (chan notified)(nil) // which wait until we know what to make of them
	for open := true; open && !c.hurried(); {
		select {
		case <-c.hurry:
		case <-c.receiver.Ready():
			d.safely(func() { open = d.take() })
		case now := <-ticker.C:
			d.safely(func() { d.tick(now) })
		case answer := <-c.asked:
			d.safely(func() { answer(d) })
		case <-begin:
			begin, notices = nil, d.intake.waiting // once
			d.safely(func() { d.release(time.Now()) })
		case n := <-notices:
			d.safely(func() { d.notice(n) })
		}
	}
	select {
	case <-begin: // Start and the end came together, and select chose the end
		d.safely(func() { d.release(time.Now()) })
	default:
	}
	d.safely(func() { d.finish(time.Now()) })
}

// safely runs a part of the decoder's work. A panic in it must not end a process
// that the node may depend on; the spans it was working on stay pending.
func (d *decoder) safely(work func()) {
	defer defect.Catch(d.noteDefect)
	work()
}

// take takes datagrams from the socket down the street, and reports whether there
// can be more.
func (d *decoder) take() (open bool) {
	began := time.Now()
	d.datagrams, open = d.receiver.Take(d.datagrams[:0], batchLen)
	// A panic on the way must not lose the value of open, or we would never end.
	d.safely(func() { d.pass(d.datagrams, began) })
	d.receiver.Release()
	d.yield(time.Since(began))
	return open
}

// pass is the street. Each datagram goes alone through the rooms up to memory, and
// all of them together through the rooms behind it.
func (d *decoder) pass(datagrams []socket.Datagram, now time.Time) {
	b := &d.batch
	b.counts, b.observations, b.spans = stats.Counts{}, b.observations[:0], b.spans[:0]
	shown := d.policy.Load()
	for i := range datagrams {
		b.counts.Received++
		b.counts.Bytes += int64(len(datagrams[i].Payload))
		d.seen.size(len(datagrams[i].Payload))
		span, kept, err := d.admit(&datagrams[i], shown, now)
		if err != nil {
			b.counts.Malformed++
			d.seen.malformed(err)
			continue
		}
		b.counts.Accepted++
		if span.Truncated {
			b.counts.Truncated++
		}
		if kept {
			b.counts.Pending++
			b.spans = append(b.spans, span)
		} else {
			b.counts.DroppedQueueFull++
			clear(span.Tags) // or its texts stay as long as the tags of its neighbours
		}
	}
	if b.counts.Accepted > 0 {
		d.seen.span(now.Sub(d.started))
	}
	d.count(b.counts, b.observations, now)
	if !d.begun { // it is not known yet how to correlate
		d.held = append(d.held, b.spans...)
		return
	}
	d.leave(d.correlator.Correlate(b.spans, now), now)
}

// admit makes a span of a datagram, notes what statistics use of it, and reports
// whether there was room for it. If its bytes make that panic, only this datagram is
// lost.
func (d *decoder) admit(datagram *socket.Datagram, shown *policy.Policy, now time.Time) (s *correlate.Span, kept bool, err error) {
	defer defect.Catch(func(found error) {
		d.noteDefect(found)
		err = found
	})
	if datagram.Oversize {
		return nil, false, zipkin.ErrOversize
	}
	s = new(correlate.Span)
	if err := d.zipkin.Decode(datagram.Payload, &s.Span); err != nil {
		return nil, false, err
	}
	s.Process = d.processes.Resolve(datagram.PID, s.ServiceName, now)
	s.Detail = d.details.Of(s.Name, s)
	s.Relative = d.parents.Observe(s.Process, &s.Span, now)
	o := d.observation(s, shown)
	if isWork(s) {
		d.waits.worked(s, o.Detail)
	}
	kept = d.room.Take(s)
	if d.begun || !kept { // release observes the others, when it knows what may be shown
		d.batch.observations = append(d.batch.observations, o)
	}
	return s, kept, nil
}

// observation is what the statistics use of s. Before Start, when it is not known
// what may be shown, that does not include the detail.
func (d *decoder) observation(s *correlate.Span, shown *policy.Policy) stats.Observation {
	o := stats.Observation{
		Process: s.Process, Span: s.Name,
		Duration: time.Duration(s.Duration) * time.Microsecond, Failed: s.Failed(),
	}
	if d.begun {
		o.Detail = shown.Detail(s)
	}
	return o
}

// count tells the statistics and the metrics.
func (d *decoder) count(counts stats.Counts, observations []stats.Observation, now time.Time) {
	if counts != (stats.Counts{}) {
		d.ledger.Book(counts, now)
	}
	if len(observations) == 0 {
		return
	}
	d.table.Observe(observations, now)
	if m := d.metrics.Load(); m != nil && d.begun {
		m.Observe(observations)
	}
}

// leave is the end of the street, for spans that wait for nothing any more.
func (d *decoder) leave(ready []*correlate.Span, now time.Time) {
	d.expirePayments(now, false)
	ready = d.afterPayments(ready, now)
	d.safely(func() { d.record(ready, now) })
	var counts stats.Counts
	counts.Repaired, d.correlator.Repaired = d.correlator.Repaired, 0
	ready = d.admitAdded(ready, &counts)
	d.countPairs(ready, now)
	d.countRequests(d.correlator.Whole())
	leaving := d.dismiss(ready, &counts, now)
	d.count(counts, nil, now) // before any of them can have been exported
	if len(leaving) > 0 {
		d.pipeline.Submit(leaving)
	}
}

// countRequests tells the statistics and the metrics of requests as a whole.
func (d *decoder) countRequests(whole []correlate.Whole) {
	if len(whole) == 0 {
		return
	}
	shown := d.policy.Load()
	observations := make([]stats.Observation, len(whole))
	for i, r := range whole {
		observations[i] = stats.Observation{
			Process: r.Process, Span: cln.SpanWhole, Detail: shown.Show(cln.TagID, r.Method),
			Duration: r.Duration, Failed: r.Failed,
		}
	}
	d.table.ObserveDerived(observations)
	if m := d.metrics.Load(); m != nil {
		m.Observe(observations)
	}
}

// countPairs tells the statistics and the metrics which requests have been paired. Before
// Start it is not known what may be shown, but nothing is correlated then either.
func (d *decoder) countPairs(ready []*correlate.Span, now time.Time) {
	var pairs []stats.Pairing
	shown := d.policy.Load()
	for _, s := range ready {
		if s.Paired {
			p := pairing(s, shown)
			pairs = append(pairs, p)
			d.waits.paired(s, &p, now)
		}
	}
	if len(pairs) == 0 {
		return
	}
	d.table.ObservePairs(pairs)
	if m := d.metrics.Load(); m != nil {
		m.ObserveWaits(pairs)
	}
}

// admitAdded takes room for the spans that the correlator has added, for they had no
// datagram. It returns all spans but those for which there is none.
func (d *decoder) admitAdded(ready []*correlate.Span, counts *stats.Counts) []*correlate.Span {
	return slices.DeleteFunc(ready, func(s *correlate.Span) bool {
		if !s.Synthetic {
			return false
		}
		counts.Synthesized++
		if d.room.Take(s) {
			counts.Pending++
			return false
		}
		counts.DroppedQueueFull++
		return true
	})
}

// dismiss takes out the spans that may not leave the process.
func (d *decoder) dismiss(ready []*correlate.Span, counts *stats.Counts, now time.Time) []*correlate.Span {
	p, m := d.policy.Load(), d.metrics.Load()
	d.decided = d.decided || len(ready) > 0
	return slices.DeleteFunc(ready, func(s *correlate.Span) bool {
		verdict := p.Verdict(s)
		if m != nil && (verdict == policy.Leaves || m.WantsRecorded()) {
			d.exemplify(m, s, verdict == policy.Leaves, now)
		}
		switch verdict {
		case policy.Filtered:
			counts.Filtered++
		case policy.SampledOut:
			counts.SampledOut++
		default:
			return false
		}
		counts.Pending--
		d.room.Release(s)
		return true
	})
}

// exemplify offers s to the metrics as an example of what they have observed of it.
func (d *decoder) exemplify(m *metrics.Metrics, s *correlate.Span, exported bool, now time.Time) {
	e := metrics.Example{
		Observation: d.observation(s, d.policy.Load()), TraceID: s.TraceID, SpanID: s.ID, Exported: exported,
		Paired: s.Paired, Wait: s.Wait,
	}
	switch {
	case s.IsRoot():
		e.Span = cln.SpanWhole
	case s.Synthetic: // and so made of notifications
		if s.Incomplete {
			return // it was not observed
		}
		e.Payment, e.Outcome = s.Payment.Kind, s.Payment.Outcome
	}
	m.Exemplify(&e, now)
}

// release takes what was held until Start the rest of the way.
func (d *decoder) release(now time.Time) {
	d.mu.Lock()
	d.correlator.Group = d.cfg.GroupRequests
	d.mu.Unlock()
	d.correlator.First = d.firstRequest.Load()
	d.begun = true
	held, p := d.held, d.policy.Load()
	d.held = nil
	observations := make([]stats.Observation, len(held))
	for i, s := range held {
		observations[i] = d.observation(s, p)
	}
	d.count(stats.Counts{}, observations, now)
	d.leave(d.correlator.Correlate(held, now), now)
}

// tick ends waits that are over.
func (d *decoder) tick(now time.Time) {
	d.count(stats.Counts{MissingParents: d.parents.Expire(now)}, nil, now)
	if d.begun {
		d.correlator.Expire(now)
		d.leave(d.correlator.Ready(), now)
	}
	if r := d.recorder.Load(); r != nil && now.Sub(d.swept).Abs() >= time.Second {
		d.swept = now
		r.Tick(now)
	}
	if now.Sub(d.watched) >= watchInterval {
		d.watched = now
		d.watch(now)
	}
	if now.Sub(d.minute) >= time.Minute {
		d.minute = now
		if d.decided {
			d.policy.Load().Traffic()
		}
		d.decided = false
	}
}

// finish ends all waits, at shutdown.
func (d *decoder) finish(now time.Time) {
	if d.begun {
		d.noticed()
		d.correlator.Flush(now) // before payments are, so that their requests are known to be open
		ready := d.correlator.Ready()
		d.expirePayments(now, true)
		d.leave(ready, now)
	}
	if r := d.recorder.Load(); r != nil {
		r.Flush(now)
	}
}

// noteDefect keeps a defect for the warnings, and logs it unless it is the same as
// the last one.
func (c *Collector) noteDefect(found error) {
	if c.seen.defect(found) {
		c.log.Error(found.Error())
	}
}

// seen is what the decoder has seen and others report.
type seen struct {
	largest       atomic.Int64          // size of the largest datagram, bytes
	lastSpan      atomic.Int64          // when the last span came, ns after the start; 0: none yet
	lastMalformed atomic.Pointer[error] // what was wrong with the last datagram that was no span
	lastDefect    atomic.Pointer[error] // the last one found; nil: none
	defects       atomic.Uint64         // how many have been found
}

func (s *seen) size(n int) {
	if int64(n) > s.largest.Load() {
		s.largest.Store(int64(n)) // only the decoder writes it
	}
}

func (s *seen) span(at time.Duration) { s.lastSpan.Store(int64(at)) }

func (s *seen) malformed(err error) { s.lastMalformed.Store(&err) }

// defect reports whether found is another one than the last.
func (s *seen) defect(found error) bool {
	s.defects.Add(1)
	last := s.lastDefect.Swap(&found)
	return last == nil || (*last).Error() != found.Error()
}

// traceParent reads the trace id and the parent id of a W3C traceparent. Like
// lightningd, it ignores one that has another form.
func traceParent(s string) (traceID trace.TraceID, parent trace.SpanID) {
	const length, traceAt, parentAt = 55, 3, 36 // 00-<32 hex>-<16 hex>-<2 hex>
	if len(s) != length {
		return traceID, parent
	}
	_, err := hex.Decode(traceID[:], []byte(s[traceAt:traceAt+32]))
	if err == nil {
		_, err = hex.Decode(parent[:], []byte(s[parentAt:parentAt+16]))
	}
	if err != nil {
		return trace.TraceID{}, trace.SpanID{}
	}
	return traceID, parent
}
