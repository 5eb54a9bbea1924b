package export

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"clntrace/collector/correlate"
	"clntrace/collector/defect"
	"clntrace/collector/otlp"
	"clntrace/collector/spool"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

const (
	// nodeWait is how long spans wait for the node's id after Start.
	nodeWait = 5 * time.Second
	// maxQueueBytes bounds the memory of queued spans. Their number alone does not:
	// a hostile sender can make each of them ten times as large as usual.
	maxQueueBytes = 32 << 20
	// maxRequestBytes keeps requests below the 4 MiB that gRPC servers accept by
	// default; they would refuse a larger one for good.
	maxRequestBytes = 2500 << 10
)

// Pipeline takes spans from the collector to the endpoint.
type Pipeline struct {
	// Yield, if set, is called after each request with the time that it took. It may
	// block, to leave the processor to others. Set it before Start.
	Yield func(worked time.Duration)

	ledger   ledger
	scope    instrumentation.Scope
	delivery *delivery
	abort    context.CancelFunc // ends all deliveries

	limit        atomic.Int64 // spans in memory at most
	waiting      atomic.Int64 // spans in memory
	waitingBytes atomic.Int64
	shared       sharedTexts

	mu        sync.Mutex
	policy    *Policy // nil before Start
	processor sdktrace.SpanProcessor
	exporter  *exporter
}

// NewPipeline returns a Pipeline with room for DefaultQueueSize spans.
// It speaks to users through v.
func NewPipeline(l ledger, log *slog.Logger, v voice.Voice, version string) *Pipeline {
	stop, abort := context.WithCancel(context.Background())
	p := &Pipeline{
		ledger: l, abort: abort,
		scope: instrumentation.Scope{Name: "clntrace", Version: version, SchemaURL: semconv.SchemaURL},
	}
	p.delivery = newDelivery(stop, l, log, v, p.crowded)
	p.limit.Store(DefaultQueueSize)
	return p
}

// DefaultQueueSize is how many spans wait in memory at most, by default: 4 s of the
// highest peak seen.
const DefaultQueueSize = 65536

// Reserve reserves memory for s, and reports whether there was any. Submit, or what
// it starts, gives it back.
func (p *Pipeline) Reserve(s *correlate.Span) bool {
	if p.waiting.Load() >= p.limit.Load() {
		return false
	}
	n := int64(ownSize(s) + p.shared.hold(s))
	if p.waitingBytes.Load()+n > maxQueueBytes {
		p.shared.release(s)
		return false
	}
	p.waiting.Add(1)
	p.waitingBytes.Add(n)
	return true
}

func (p *Pipeline) unreserve(s *correlate.Span) {
	p.waiting.Add(-1)
	p.waitingBytes.Add(int64(-ownSize(s) - p.shared.release(s)))
}

// crowded reports whether more than half of the memory for spans is in use. Then
// there is still time to put batches on disk before spans have to be dropped.
func (p *Pipeline) crowded() bool {
	return p.waiting.Load() > p.limit.Load()/2 || p.waitingBytes.Load() > maxQueueBytes/2
}

// Start makes the Pipeline ready for Submit. An error says what in cfg cannot be
// used, and means that nothing is exported.
func (p *Pipeline) Start(cfg Config) error {
	err := p.delivery.use(cfg.Config)
	if err != nil {
		cfg.Endpoint = otlp.OffEndpoint
		_ = p.delivery.use(cfg.Config) // off cannot fail
	}
	p.delivery.openSpool(cfg)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy = newPolicy(cfg)
	p.limit.Store(int64(cfg.QueueSize))
	p.exporter = newExporter(p, cfg)
	p.processor = sdktrace.NewBatchSpanProcessor(p.exporter,
		// Room for everything that Reserve admits, so that the SDK never drops a
		// span: it would not tell us.
		sdktrace.WithMaxQueueSize(max(cfg.QueueSize, DefaultQueueSize)),
		sdktrace.WithMaxExportBatchSize(cfg.BatchSize),
		sdktrace.WithBatchTimeout(cfg.BatchDelay),
		sdktrace.WithExportTimeout(0), // none: the delivery has its own
	)
	return err
}

// Submit queues spans for the endpoint, or books why they are not sent. They must
// have a reservation and be booked as pending. Submit does not block.
func (p *Pipeline) Submit(spans []*correlate.Span, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var moved stats.Counts
	for _, s := range spans {
		switch {
		case p.policy.filters(s):
			moved.Filtered++
		case !p.policy.samples(s):
			moved.SampledOut++
		default:
			p.processor.OnEnd(&readOnlySpan{in: s})
			continue
		}
		moved.Pending--
		p.unreserve(s)
	}
	if moved.Pending != 0 {
		p.ledger.Book(moved, now)
	}
}

// Reconfigure applies what in cfg can change at run time, and connects anew if
// connection is set. An error says what cannot be used, and means that nothing has
// changed.
func (p *Pipeline) Reconfigure(cfg Config, connection bool) error {
	if connection {
		if err := p.delivery.use(cfg.Config); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy = newPolicy(cfg)
	if p.exporter != nil {
		p.exporter.policy.Store(p.policy)
	}
	return nil
}

// SetNode says which node the spans are from, and releases those that wait for it.
func (p *Pipeline) SetNode(n Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exporter != nil {
		p.exporter.setNode(n)
	}
}

// Policy returns the policy now in effect; nil before Start.
func (p *Pipeline) Policy() *Policy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.policy
}

// Status returns the state of the endpoint, and since when it has taken nothing; zero if
// it takes something.
func (p *Pipeline) Status() (stats.Export, time.Time) { return p.delivery.endpoint.status() }

// Spool returns the state of the spool. Its Limit is 0 if there is none.
func (p *Pipeline) Spool() spool.Status {
	if s := p.delivery.spool.Load(); s != nil {
		return s.Status()
	}
	return spool.Status{}
}

// spoolTime is the part of the time for the shutdown that is kept for spooling what
// the endpoint has not taken. On a slow disk, a full memory takes a third of it.
const spoolTime = time.Second

// Shutdown exports what is left until ctx is nearly done, spools the rest, and
// returns how many spans could be neither exported nor spooled.
func (p *Pipeline) Shutdown(ctx context.Context) (undelivered int64) {
	p.mu.Lock()
	processor := p.processor
	if p.exporter != nil {
		p.exporter.open()
	}
	p.mu.Unlock()
	defer p.abort()
	if processor == nil {
		return p.waiting.Load()
	}
	// After abort, batches are spooled or fail at once, so the processor needs only
	// a moment more for the rest of its queue.
	left := remaining(ctx)
	defer context.AfterFunc(ctx, p.abort)()
	defer time.AfterFunc(left-min(spoolTime, left/5), p.abort).Stop()
	const moment = time.Second
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), left+moment)
	defer cancel()
	p.delivery.endDrain()
	_ = processor.Shutdown(grace) // the number of spans left says more than its error
	p.delivery.closeSpool()
	return p.waiting.Load() + p.delivery.left.Load()
}

func remaining(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline), 0)
	}
	const enough = time.Hour
	return enough
}

// exporter is what the SDK's batch processor exports to. It waits for the node's id,
// fills in what depends on the node, and keeps requests small enough.
type exporter struct {
	pipeline *Pipeline
	next     *otlptrace.Exporter
	policy   atomic.Pointer[Policy]
	largest  int // request, bytes

	ready    chan struct{} // closed when exporting may begin
	openOnce sync.Once
	timer    *time.Timer

	mu        sync.Mutex
	cfg       Config
	resources *resources
	database  attribute.KeyValue
}

var _ sdktrace.SpanExporter = (*exporter)(nil)

func newExporter(p *Pipeline, cfg Config) *exporter {
	e := &exporter{pipeline: p, cfg: cfg, ready: make(chan struct{}), resources: newResources(cfg, Node{})}
	e.policy.Store(p.policy)
	e.largest = maxRequestBytes
	if cfg.SpoolSize > 0 { // a request must fit into the spool, and leave room for others
		e.largest = min(e.largest, cfg.SpoolSize<<20/4)
	}
	e.next = otlptrace.NewUnstarted(p.delivery)
	_ = e.next.Start(context.Background()) // the delivery's Start cannot fail
	e.timer = time.AfterFunc(nodeWait, e.open)
	return e
}

func (e *exporter) open() { e.openOnce.Do(func() { close(e.ready); e.timer.Stop() }) }

func (e *exporter) setNode(n Node) {
	e.mu.Lock()
	e.resources = newResources(e.cfg, n)
	e.database = databaseSystem(n.Database)
	e.mu.Unlock()
	e.open()
}

// ExportSpans exports spans in as many requests as their size requires. It returns
// no error, because the delivery books what becomes of the spans.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	<-e.ready
	for len(spans) > 0 {
		began := time.Now()
		n := e.prepare(spans)
		if err := e.export(ctx, spans[:n]); err == nil {
			for _, s := range spans[:n] {
				e.pipeline.unreserve(s.(*readOnlySpan).in) // Submit queues no other type
			}
		}
		spans = spans[n:]
		if e.pipeline.Yield != nil {
			e.pipeline.Yield(time.Since(began))
		}
	}
	return nil
}

// export sends one request. The SDK calls us in a goroutine of its own, where a
// panic would end the process.
func (e *exporter) export(ctx context.Context, spans []sdktrace.ReadOnlySpan) (err error) {
	defer func() {
		if found := defect.Of(recover()); found != nil {
			e.pipeline.delivery.reject(int64(len(spans)), found)
			err = nil
		}
	}()
	return e.next.ExportSpans(ctx, spans)
}

// prepare fills in as many spans as fit into one request, and returns their number.
func (e *exporter) prepare(spans []sdktrace.ReadOnlySpan) (n int) {
	p := e.policy.Load()
	e.mu.Lock()
	defer e.mu.Unlock()
	largest := min(e.largest, e.pipeline.delivery.endpoint.requestLimit())
	request, senders := 0, make(map[*resource.Resource]bool)
	for _, ro := range spans {
		s := ro.(*readOnlySpan)
		e.fillIn(s, p)
		request += requestSize(s.in)
		if !senders[s.resource] {
			senders[s.resource] = true
			request += resourceSize(s.resource)
		}
		if n > 0 && request > largest {
			break
		}
		n++
	}
	return n
}

// fillIn fills in one span. If that panics, the span is exported as it is. The
// caller holds e.mu.
func (e *exporter) fillIn(s *readOnlySpan, p *Policy) {
	defer func() {
		if found := defect.Of(recover()); found != nil {
			s.attributes, s.links = nil, nil
			e.pipeline.delivery.report(found)
		}
	}()
	s.scope = &e.pipeline.scope
	s.resource = e.resources.of(s.in.Process)
	s.describe(p, e.database)
}

// Shutdown closes the connection.
func (e *exporter) Shutdown(ctx context.Context) error { return e.next.Shutdown(ctx) }
