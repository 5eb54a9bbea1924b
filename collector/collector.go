package collector

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/defect"
	"clntrace/collector/export"
	"clntrace/collector/metrics"
	"clntrace/collector/process"
	"clntrace/collector/socket"
	"clntrace/collector/stats"
	"clntrace/collector/text"
	"clntrace/collector/zipkin"
)

// Options is what a Collector needs before its configuration is known.
type Options struct {
	// SocketPath is where to listen: the value of CLN_TRACE_SOCKET.
	SocketPath string
	// SocketProblem, if set, tells the user why there is no SocketPath.
	SocketProblem string
	// Lightningd is the pid of the node. If it is 0, unknown, the parent process of
	// each sender is taken for its node.
	Lightningd int
	// TraceParent is the value of CLN_TRACEPARENT: a parent whose span never comes.
	TraceParent string
	Version     string // of clntrace
	Logger      *slog.Logger
}

// Node identifies the node whose spans these are. Empty fields are unknown.
type Node = export.Node

// Collector receives, counts and exports spans.
type Collector struct {
	options  Options
	log      *slog.Logger
	started  time.Time
	now      func() time.Time // for Stats
	receiver *socket.Receiver // nil: there is no SocketPath
	ledger   *stats.Ledger
	table    *stats.Operations
	pipeline *export.Pipeline
	metrics  atomic.Pointer[metrics.Metrics] // nil: not wanted, or not started
	begin    chan struct{}                   // closed by Start
	decoding chan struct{}                   // closed when the decoder has ended
	hurry    chan struct{}                   // closed by endDecoding: the decoder must not go on

	endDecoding func()

	largest   atomic.Int64          // size of the largest datagram, bytes
	malformed atomic.Pointer[error] // what was wrong with the last malformed datagram
	lastSpan  atomic.Int64          // when the last span came, ns after started; 0: none yet
	defect    atomic.Pointer[error] // the last one found; nil: none

	mu       sync.Mutex
	cfg      Config
	running  bool     // Start was called
	problems []string // options that cannot be used
	unsent   error    // why metrics are not sent, or go to another endpoint than spans; nil: neither
}

// Open binds the socket and begins to receive and count. It does not fail: if the
// socket cannot be bound the collector is degraded, and its Stats say why.
func Open(o Options) *Collector {
	c := &Collector{
		options: o, log: o.Logger, started: time.Now(), now: time.Now,
		ledger: new(stats.Ledger), table: stats.NewOperations(),
		begin: make(chan struct{}), decoding: make(chan struct{}), hurry: make(chan struct{}),
	}
	c.endDecoding = sync.OnceFunc(func() { close(c.hurry) })
	c.allow(nil)
	if o.SocketProblem == "" {
		c.receiver = socket.Open(o.SocketPath, o.Logger)
	} else {
		o.Logger.Warn("no span can be received: " + o.SocketProblem)
	}
	c.pipeline = export.NewPipeline(c.ledger, o.Logger, o.Version)
	c.pipeline.Yield = c.yield
	go c.decode()
	return c
}

// allow accepts the datagrams of our own user, of root and of uids.
func (c *Collector) allow(uids []uint32) {
	set := map[uint32]bool{0: true, uint32(os.Geteuid()): true} //nolint:gosec // a uid has 32 bits
	for _, uid := range uids {
		set[uid] = true
	}
	if c.receiver != nil {
		c.receiver.Allow(set, len(uids) > 0)
	}
}

// Start begins to export, as cfg says, what has been received since Open and what
// follows. problems are sentences about options that cannot be used. If there are
// any, the collector is degraded and exports nothing until a Reconfigure without
// them.
func (c *Collector) Start(cfg Config, problems []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		return
	}
	c.running = true
	c.allow(cfg.AllowUIDs)
	c.cfg, c.problems = usable(cfg, problems), problems
	if err := c.pipeline.Start(c.cfg.Config); err != nil {
		c.problems = append(c.problems, err.Error())
		c.cfg = usable(c.cfg, c.problems)
		c.log.Error(err.Error())
	}
	c.startMetrics()
	close(c.begin)
	if c.socketStatus().Listening { // if not, that has been logged
		c.log.Info("clntrace " + c.options.Version + ": listening for spans on " + c.options.SocketPath + "; tracestats tells how it goes")
	}
}

// UntilCorrected says what follows from options that cannot be used.
const UntilCorrected = "Nothing is exported until the options are corrected, and spans count as filtered"

// usable is cfg if there are no problems. If there are, nothing may leave the
// node: the faulty option may have been meant to hold something back.
func usable(cfg Config, problems []string) Config {
	if len(problems) > 0 {
		cfg.Endpoint = export.OffEndpoint
	}
	return cfg
}

// PreferReceiving lowers the priority of all threads of the process but the
// receiving one, below that of the node's processes too. It cannot be undone.
func (c *Collector) PreferReceiving() {
	if c.receiver == nil {
		return
	}
	if err := c.receiver.Prefer(); err != nil {
		c.log.Info("receiving has no precedence over other work", "error", err)
	}
}

// SetNode says which node the spans are from. Exporting waits for it, for at most
// 5 s from Start.
func (c *Collector) SetNode(n Node) {
	c.pipeline.SetNode(n)
	if m := c.metrics.Load(); m != nil {
		m.SetNode(n)
	}
}

// Reconfigure applies the fields of cfg that can change at run time: Endpoint,
// Headers, SampleRatio, DropSpans and RedactTags. problems are as in Start. An
// error says what cannot be used, and means that nothing has changed.
func (c *Collector) Reconfigure(cfg Config, problems []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	cfg = usable(cfg, problems)
	connection := cfg.Endpoint != c.cfg.Endpoint || !maps.Equal(cfg.Headers, c.cfg.Headers)
	if err := c.pipeline.Reconfigure(cfg.Config, connection); err != nil {
		return err
	}
	c.cfg, c.problems = cfg, problems
	if connection {
		c.moveMetrics()
	}
	return nil
}

// Shutdown stops receiving, removes the socket, and exports what is left until ctx
// is done. The error says how many spans could be neither exported nor spooled.
func (c *Collector) Shutdown(ctx context.Context) error {
	if c.receiver != nil {
		c.receiver.Close()
		c.awaitDecoder(ctx)
	}
	left := c.pipeline.Shutdown(ctx)
	if m := c.metrics.Load(); m != nil {
		m.Shutdown(ctx)
	}
	if left > 0 {
		return fmt.Errorf("%s could be neither delivered nor kept on disk in time", text.Number(left, "span is lost: it", "spans are lost: they"))
	}
	return nil
}

// awaitDecoder waits until the decoder has decoded all that came, but at most for half
// of the time that ctx leaves: the other half is for the export and for the spool. What
// is not decoded by then is counted as dropped.
func (c *Collector) awaitDecoder(ctx context.Context) {
	if deadline, ok := ctx.Deadline(); ok {
		timer := time.AfterFunc(time.Until(deadline)/2, c.endDecoding)
		defer timer.Stop()
	}
	<-c.decoding
}

// hurried reports whether the decoder must not go on. Then it discards what is left.
func (c *Collector) hurried() bool {
	select {
	case <-c.hurry:
		c.receiver.Discard()
		return true
	default:
		return false
	}
}

// tickInterval is how often the decoder looks for waits that are over.
const tickInterval = time.Second

// decode is the goroutine between the socket and the export queue.
func (c *Collector) decode() {
	defer close(c.decoding)
	if c.receiver == nil {
		return
	}
	d := newDecoder(c)
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	begin := c.begin
	for open := true; open && !c.hurried(); {
		select {
		case <-c.hurry:
		case <-c.receiver.Ready():
			d.safely(func() { open = d.take() })
		case now := <-ticker.C:
			d.safely(func() { d.tick(now) })
		case <-begin:
			begin = nil // once
			d.safely(func() { d.release(time.Now()) })
		}
	}
	select {
	case <-begin: // Start and the end came together, and select chose the end
		d.safely(func() { d.release(time.Now()) })
	default:
	}
	d.safely(func() { d.finish(time.Now()) })
}

// decoder is the state of the decoding goroutine.
type decoder struct {
	collector  *Collector
	zipkin     zipkin.Decoder
	details    cln.Reader
	processes  *process.Resolver
	correlator *correlate.Correlator

	started   bool
	held      []*correlate.Span // until Start
	datagrams []socket.Datagram
	spans     []*correlate.Span
	seen      []stats.Observation
}

func newDecoder(c *Collector) *decoder {
	d := &decoder{collector: c, processes: process.NewResolver("/proc")}
	var o correlate.Options
	o.KnownTrace, o.KnownParent = traceParent(c.options.TraceParent)
	node := int32(c.options.Lightningd) //nolint:gosec // pids fit
	if start, err := d.processes.StartTime(node); err == nil {
		o.Run = correlate.Run{PID: node, StartTime: start}
	}
	o.Defect = c.confess
	d.correlator = correlate.New(o)
	return d
}

// safely runs a part of the decoder's work. A panic in it must not end a process
// that the node may depend on; the spans it was working on stay pending.
func (d *decoder) safely(work func()) {
	defer defect.Catch(d.collector.confess)
	work()
}

// confess keeps a defect for the warnings, and logs it unless it is the same as
// the last one.
func (c *Collector) confess(found error) {
	last := c.defect.Swap(&found)
	if last == nil || (*last).Error() != found.Error() {
		c.log.Error(found.Error())
	}
}

// batchLen is how many datagrams are decoded at once: few enough to return their
// room in the ring soon, and enough to share the cost of booking and submitting.
const batchLen = 512

// take decodes datagrams that the socket has received, and reports whether there
// can be more.
func (d *decoder) take() (open bool) {
	began := time.Now()
	receiver := d.collector.receiver
	d.datagrams, open = receiver.Take(d.datagrams[:0], batchLen)
	// A panic in decode must not lose the value of open, or we would never end.
	d.safely(func() { d.decode(d.datagrams, began) })
	receiver.Release()
	d.collector.yield(time.Since(began))
	return open
}

// decode brings datagrams all the way to the export queue.
func (d *decoder) decode(datagrams []socket.Datagram, now time.Time) {
	c := d.collector
	var counts stats.Counts
	d.spans, d.seen = d.spans[:0], d.seen[:0]
	policy := c.pipeline.Policy()
	for i := range datagrams {
		datagram := &datagrams[i]
		counts.Received++
		counts.Bytes += int64(len(datagram.Payload))
		c.noteSize(len(datagram.Payload))
		span, kept, err := d.admit(datagram, policy, now)
		if err != nil {
			counts.Malformed++
			c.noteMalformed(err)
			continue
		}
		counts.Accepted++
		if span.Truncated {
			counts.Truncated++
		}
		if kept {
			counts.Pending++
			d.spans = append(d.spans, span)
		} else {
			counts.DroppedQueueFull++
		}
	}
	if counts.Accepted > 0 {
		c.lastSpan.Store(int64(now.Sub(c.started)))
	}
	c.ledger.Book(counts, now)
	d.observe(now)
	d.pass(d.spans, now)
}

// see notes s for the statistics. Before Start it is not known what must be
// redacted: spans that are kept are noted at Start, and dropped ones at once,
// without their detail.
func (d *decoder) see(s *correlate.Span, p *export.Policy, kept bool) {
	if !d.started && kept {
		return
	}
	o := observation(s, p)
	if !d.started {
		o.Detail = ""
	}
	d.seen = append(d.seen, o)
}

// observe passes on to the statistics what was noted.
func (d *decoder) observe(now time.Time) {
	d.collector.table.Observe(d.seen, now)
	if m := d.collector.metrics.Load(); m != nil && d.started {
		m.Observe(d.seen)
	}
}

// observation is what the statistics use of s.
func observation(s *correlate.Span, p *export.Policy) stats.Observation {
	return stats.Observation{
		Process: s.Process, Span: s.Name, Detail: p.Detail(s),
		Duration: time.Duration(s.Duration) * time.Microsecond, Failed: s.Failed(),
	}
}

// admit decodes a datagram, reserves memory for its span, if there is any, and
// notes it for the statistics. If its bytes make the decoder panic, only this
// datagram is lost.
func (d *decoder) admit(datagram *socket.Datagram, p *export.Policy, now time.Time) (s *correlate.Span, kept bool, err error) {
	defer defect.Catch(func(found error) {
		d.collector.confess(found)
		err = found
	})
	if s, err = d.span(datagram, now); err != nil {
		return nil, false, err
	}
	kept = d.collector.pipeline.Reserve(s)
	d.see(s, p, kept)
	return s, kept, nil
}

// span decodes a datagram and finds out which process sent it.
func (d *decoder) span(datagram *socket.Datagram, now time.Time) (*correlate.Span, error) {
	if datagram.Oversize {
		return nil, zipkin.ErrOversize
	}
	s := new(correlate.Span)
	if err := d.zipkin.Decode(datagram.Payload, &s.Span); err != nil {
		return nil, err
	}
	s.Process = d.processes.Resolve(datagram.PID, s.ServiceName, now)
	s.Detail = d.details.Of(&s.Span)
	d.correlator.Observe(s, now)
	return s, nil
}

// pass correlates spans and submits those that are ready. Until Start, when we
// learn how to correlate them, it keeps them.
func (d *decoder) pass(spans []*correlate.Span, now time.Time) {
	if !d.started {
		d.held = append(d.held, spans...)
		return
	}
	for _, s := range spans {
		d.correlator.Add(s, now)
	}
	d.submit(now)
}

// release passes on what was held until Start.
func (d *decoder) release(now time.Time) {
	c := d.collector
	c.mu.Lock()
	d.correlator.Group = c.cfg.GroupRequests
	c.mu.Unlock()
	d.started = true
	held := d.held
	d.held = nil
	d.seen = d.seen[:0]
	policy := c.pipeline.Policy()
	for _, s := range held {
		d.see(s, policy, true)
	}
	d.observe(now)
	d.pass(held, now)
}

// submit passes spans that are ready on to the export. Spans that the correlator
// has added are booked here, for they have no datagram.
func (d *decoder) submit(now time.Time) {
	c := d.collector
	var counts stats.Counts
	counts.Repaired, d.correlator.Repaired = d.correlator.Repaired, 0
	ready := slices.DeleteFunc(d.correlator.Ready(), func(s *correlate.Span) bool {
		if !s.Synthetic {
			return false
		}
		counts.Synthesized++
		if c.pipeline.Reserve(s) {
			counts.Pending++
			return false
		}
		counts.DroppedQueueFull++
		return true
	})
	if counts != (stats.Counts{}) {
		c.ledger.Book(counts, now)
	}
	if len(ready) > 0 {
		c.pipeline.Submit(ready, now)
	}
}

// tick ends waits that are over.
func (d *decoder) tick(now time.Time) {
	if missing := d.correlator.Missing(now); missing > 0 {
		d.collector.ledger.Book(stats.Counts{MissingParents: missing}, now)
	}
	if d.started {
		d.correlator.Expire(now)
		d.submit(now)
	}
}

// finish ends all waits, at shutdown.
func (d *decoder) finish(now time.Time) {
	if d.started {
		d.correlator.Flush(now)
		d.submit(now)
	}
}

func (c *Collector) noteSize(n int) {
	if int64(n) > c.largest.Load() {
		c.largest.Store(int64(n)) // only the decoder writes it
	}
}

func (c *Collector) noteMalformed(err error) { c.malformed.Store(&err) }

func (c *Collector) lastMalformed() error {
	if err := c.malformed.Load(); err != nil {
		return *err
	}
	return nil
}
