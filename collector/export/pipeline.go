package export

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"clntrace/collector/correlate"
	"clntrace/collector/defect"
	"clntrace/collector/memory"
	"clntrace/collector/otlp"
	"clntrace/collector/policy"
	"clntrace/collector/spool"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

const (
	// nodeWait is how long spans wait for the node's id after Start.
	nodeWait = 5 * time.Second
	// maxRequestBytes keeps requests below the 4 MiB that gRPC servers accept by
	// default; they would refuse a larger one for good.
	maxRequestBytes = 2500 << 10
)

// Options is what a Pipeline needs before its configuration is known.
type Options struct {
	Ledger ledger
	// Room is what the spans that Submit gets have been taken from. The Pipeline
	// releases it.
	Room *memory.Room
	// Policy returns what of spans may be shown. It is asked when a span leaves.
	Policy  func() *policy.Policy
	Logger  *slog.Logger
	Version string // of clntrace
	// Yield, if set, is called after each request with the time that it took. It may
	// block, to leave the processor to others.
	Yield func(worked time.Duration)
	// Voice names options in what goes wrong.
	Voice voice.Voice
}

// Pipeline takes spans from the collector to the endpoint.
type Pipeline struct {
	options  Options
	scope    instrumentation.Scope
	delivery *delivery
	abort    context.CancelFunc // ends all deliveries

	mu        sync.Mutex
	processor sdktrace.SpanProcessor
	exporter  *exporter
}

// NewPipeline returns a Pipeline that exports nothing until Start.
func NewPipeline(o Options) *Pipeline {
	stop, abort := context.WithCancel(context.Background())
	return &Pipeline{
		options: o, abort: abort,
		scope:    instrumentation.Scope{Name: "clntrace", Version: o.Version, SchemaURL: semconv.SchemaURL},
		delivery: newDelivery(stop, o),
	}
}

// DefaultQueueSize is how many spans wait in memory at most, by default: 4 s of the
// highest peak seen.
const DefaultQueueSize = 65536

// Start makes the Pipeline ready for Submit. An error says what in cfg cannot be
// used, and means that nothing is exported.
func (p *Pipeline) Start(cfg Config) error {
	err := p.delivery.use(cfg.Config)
	if err != nil {
		cfg.Endpoint = otlp.OffEndpoint
		_ = p.delivery.use(cfg.Config) // off cannot fail
	}
	p.delivery.openSpool(cfg, p.options.Voice)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exporter = newExporter(p, cfg)
	p.processor = sdktrace.NewBatchSpanProcessor(p.exporter,
		// Places for everything that there is room for, so that the SDK never drops
		// a span: it would not tell us.
		sdktrace.WithMaxQueueSize(max(cfg.QueueSize, DefaultQueueSize)),
		sdktrace.WithMaxExportBatchSize(cfg.BatchSize),
		sdktrace.WithBatchTimeout(cfg.BatchDelay),
		sdktrace.WithExportTimeout(0), // none: the delivery has its own
	)
	return err
}

// Submit queues spans for the endpoint. There must be room for them, and they must be
// booked as pending. Submit does not block.
func (p *Pipeline) Submit(spans []*correlate.Span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]readOnlySpan, len(spans))
	for i, s := range spans {
		list[i] = readOnlySpan{in: s, out: &queued}
		p.processor.OnEnd(&list[i])
	}
}

// Connect sends everything that follows to the endpoint of cfg, with its headers. An
// error says what cannot be used, and means that nothing has changed.
func (p *Pipeline) Connect(cfg Config) error { return p.delivery.use(cfg.Config) }

// PolicyChanged ends the attempt to send what is on disk that is under way, because it
// began under the policy of before. What the endpoint had just got is sent twice.
func (p *Pipeline) PolicyChanged() {
	if interrupt := p.delivery.interrupt.Load(); interrupt != nil {
		(*interrupt)()
	}
}

// SetNode says which node the spans are from, and releases those that wait for it.
func (p *Pipeline) SetNode(n Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exporter != nil {
		p.exporter.setNode(n)
	}
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
		return p.options.Room.Spans()
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
	return p.options.Room.Spans() + p.delivery.left.Load()
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
	largest  int // request, bytes

	ready    chan struct{} // closed when exporting may begin
	openOnce sync.Once
	timer    *time.Timer

	mu           sync.Mutex
	cfg          Config
	resources    *resources
	descriptions *descriptions
	outgoing     []outgoing // of the spans of one request, used again for the next one
}

var _ sdktrace.SpanExporter = (*exporter)(nil)

func newExporter(p *Pipeline, cfg Config) *exporter {
	e := &exporter{pipeline: p, cfg: cfg, ready: make(chan struct{}), resources: newResources(cfg, Node{}), descriptions: newDescriptions(attribute.KeyValue{})}
	e.largest = maxRequestBytes
	if cfg.SpoolSize > 0 { // a request must fit into the spool, and leave room for others
		e.largest = min(e.largest, cfg.SpoolSize<<20/4)
	}
	e.timer = time.AfterFunc(nodeWait, e.open)
	return e
}

func (e *exporter) open() { e.openOnce.Do(func() { close(e.ready); e.timer.Stop() }) }

func (e *exporter) setNode(n Node) {
	e.mu.Lock()
	e.resources = newResources(e.cfg, n)
	e.descriptions = newDescriptions(databaseSystem(n.Database))
	e.mu.Unlock()
	e.open()
}

// ExportSpans exports spans in as many requests as their size requires. It returns
// no error, because the delivery books what becomes of the spans.
func (e *exporter) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	<-e.ready
	for len(spans) > 0 {
		began := time.Now()
		n, shown := e.prepare(spans)
		e.export(spans[:n], shown)
		e.forget()
		for _, ro := range spans[:n] {
			s := ro.(*readOnlySpan) // Submit queues no other type
			e.pipeline.options.Room.Release(s.in)
			s.in = nil // the SDK holds s until the whole batch has been exported
		}
		spans = spans[n:]
		if yield := e.pipeline.options.Yield; yield != nil {
			yield(time.Since(began))
		}
	}
	return nil
}

// export sends one request. The SDK calls us in a goroutine of its own, where a
// panic would end the process.
func (e *exporter) export(spans []sdktrace.ReadOnlySpan, shown *policy.Policy) {
	defer defect.Catch(func(found error) { e.pipeline.delivery.reject(int64(len(spans)), found) })
	r := transform(spans)
	e.pipeline.delivery.dispatch(r.batch, shown, r.release)
}

// prepare fills in as many spans as fit into one request, and returns their number, and
// by which policy.
func (e *exporter) prepare(spans []sdktrace.ReadOnlySpan) (n int, p *policy.Policy) {
	p = e.pipeline.options.Policy()
	e.mu.Lock()
	defer e.mu.Unlock()
	largest := min(e.largest, e.pipeline.delivery.endpoint.requestLimit())
	e.descriptions.begin(p)
	request, senders := 0, make(map[*resource.Resource]bool)
	// As many as can fit, and one that no longer does: a batch may be far more.
	spans = spans[:min(len(spans), largest/leastRequestSize+2)]
	e.outgoing = slices.Grow(e.outgoing[:0], len(spans))[:len(spans)]
	for i, ro := range spans {
		s := ro.(*readOnlySpan)
		s.out = &e.outgoing[i]
		e.fillIn(s)
		request += requestSize(s.in)
		if r := s.out.resource; !senders[r] {
			senders[r] = true
			request += resourceSize(r)
		}
		if n > 0 && request > largest {
			break
		}
		n++
	}
	return n, p
}

// forget lets go of what the spans of a request had only while it was exported. If it is
// sent later, it has what it needs in wire form.
func (e *exporter) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.outgoing)
	e.descriptions.end()
}

// fillIn fills in one span. If that panics, the span is exported as it is. The
// caller holds e.mu.
func (e *exporter) fillIn(s *readOnlySpan) {
	*s.out = outgoing{scope: &e.pipeline.scope}
	defer defect.Catch(func(found error) {
		s.out.attributes, s.out.encoded, s.out.links = nil, nil, nil
		e.pipeline.delivery.report(found)
	})
	s.out.resource = e.resources.of(s.in.Process)
	e.descriptions.describe(s.in, s.out)
}

// Shutdown closes the connection.
func (e *exporter) Shutdown(ctx context.Context) error { return e.pipeline.delivery.Stop(ctx) }
