package metrics

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/stats"
)

// The names of the metrics.
const (
	durationName  = "cln.span.duration"
	waitName      = "cln.request.wait"
	datagramsName = "clntrace.datagrams"
	spansName     = "clntrace.spans"
	queueName     = "clntrace.queue.size"
	spoolName     = "clntrace.spool.bytes"
)

// exponential are histograms with the defaults of the OpenTelemetry specification. Even
// with durations from 1 µs to 1 h percentiles are off by at most 9 %.
var exponential = sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}

// Where histograms have explicit buckets, these are their bounds, in seconds. There are
// so few because each is a time series of Prometheus.
var (
	spanBuckets    = []float64{.001, .0025, .01, .025, .1, .25, 1, 2.5, 10, 30, 60}
	paymentBuckets = []float64{.001, .01, .1, .5, 1, 2.5, 5, 10, 30, 60, 600, 3600}
)

// bounds are how many values an attribute has at most, and one for all others.
type bounds struct{ reasons, forwardReasons int }

// meter are the instruments of one of the SDK's providers.
type meter struct {
	provider *sdkmetric.MeterProvider
	families map[string]*family // by name

	duration, wait, payment, forward *family
	reasons, forwardReasons          names
}

// family is a histogram with its series.
type family struct {
	histogram metric.Float64Histogram

	mu     sync.Mutex
	points map[attribute.Distinct]*point
}

// newMeter makes the instruments for readers.
func newMeter(o *Options, b bounds, readers ...sdkmetric.Reader) (*meter, error) {
	m := &meter{families: make(map[string]*family), reasons: newNames(b.reasons), forwardReasons: newNames(b.forwardReasons)}
	list := []sdkmetric.Option{
		sdkmetric.WithCardinalityLimit(maxSeries + spareSeries),
		sdkmetric.WithExemplarFilter(never), // examples come when it is known which spans can be looked at
		sdkmetric.WithView(m.view),
	}
	for _, r := range readers {
		list = append(list, sdkmetric.WithReader(r))
	}
	m.provider = sdkmetric.NewMeterProvider(list...)
	api := m.provider.Meter("clntrace", metric.WithInstrumentationVersion(o.Version), metric.WithSchemaURL(semconv.SchemaURL))
	if err := errors.Join(m.defineHistograms(api), defineCounts(api, o), defineOpen(api, o)); err != nil {
		return nil, errors.Join(fmt.Errorf("defining the metrics: %w", err), m.provider.Shutdown(context.Background()))
	}
	return m, nil
}

// never is the SDK's filter for exemplars. It is not exemplar.AlwaysOffFilter because
// with that the SDK would not ask for ours.
func never(context.Context) bool { return false }

// view makes the histograms take their exemplars from their points.
func (m *meter) view(i sdkmetric.Instrument) (sdkmetric.Stream, bool) {
	if i.Kind != sdkmetric.InstrumentKindHistogram {
		return sdkmetric.Stream{}, false
	}
	f := &family{points: make(map[attribute.Distinct]*point)}
	if known := m.families[i.Name]; known != nil { // from another reader
		f = known
	}
	m.families[i.Name] = f
	return sdkmetric.Stream{
		Name: i.Name, Description: i.Description, Unit: i.Unit,
		ExemplarReservoirProviderSelector: func(sdkmetric.Aggregation) exemplar.ReservoirProvider {
			return func(set attribute.Set) exemplar.Reservoir { return &f.point(set).examples }
		},
	}, true
}

func (m *meter) defineHistograms(api metric.Meter) error {
	var errs []error
	define := func(name, description string, buckets []float64) *family {
		h, err := api.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(buckets...))
		errs = append(errs, err)
		f := m.families[name]
		f.histogram = h
		return f
	}
	m.duration = define(durationName, "Durations of the node's spans, exported or not, and of requests as a whole.", spanBuckets)
	m.wait = define(waitName, "How long requests of plugins waited until lightningd began to work on them.", spanBuckets)
	m.payment = define(paymentName, "Durations of payments, over all their parts, by how they ended.", paymentBuckets)
	m.forward = define(forwardName, "Durations of forwards by how they ended: as a whole (total), until offered on (accept), and until resolved by the next peer (downstream).", paymentBuckets)
	return errors.Join(errs...)
}

// defineCounts makes the instruments for what becomes of datagrams and spans.
func defineCounts(api metric.Meter, o *Options) error {
	var errs [5]error
	datagrams, err := api.Int64ObservableCounter(datagramsName, metric.WithUnit("{datagram}"),
		metric.WithDescription("Datagrams that arrived on the trace socket, by what became of them."))
	errs[0] = err
	spans, err := api.Int64ObservableCounter(spansName, metric.WithUnit("{span}"),
		metric.WithDescription("Spans that have left clntrace, by the way they went."))
	errs[1] = err
	queue, err := api.Int64ObservableUpDownCounter(queueName, metric.WithUnit("{span}"),
		metric.WithDescription("Spans in memory that wait for export."))
	errs[2] = err
	spool, err := api.Int64ObservableUpDownCounter(spoolName, metric.WithUnit("By"),
		metric.WithDescription("Size of the spool on disk."))
	errs[3] = err
	_, errs[4] = api.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		c := o.Counts()
		for i := range datagramOutcomes {
			to.ObserveInt64(datagrams, datagramOutcomes[i].count(&c), datagramOutcomes[i].attribute)
		}
		for i := range spanOutcomes {
			to.ObserveInt64(spans, spanOutcomes[i].count(&c), spanOutcomes[i].attribute)
		}
		to.ObserveInt64(queue, c.Pending)
		to.ObserveInt64(spool, o.SpoolBytes())
		return nil
	}, datagrams, spans, queue, spool)
	return errors.Join(errs[:]...)
}

// outcome is something that can become of datagrams or spans.
type outcome struct {
	attribute metric.MeasurementOption
	count     func(*stats.Counts) int64
}

func newOutcome(name string, count func(*stats.Counts) int64) outcome {
	return outcome{metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", name))), count}
}

var datagramOutcomes = []outcome{
	newOutcome("accepted", func(c *stats.Counts) int64 { return c.Accepted }),
	newOutcome("refused", func(c *stats.Counts) int64 { return c.Refused }),
	newOutcome("malformed", func(c *stats.Counts) int64 { return c.Malformed }),
}

// spanOutcomes are the final ones, whose counts only grow. Pending and spooled
// spans have metrics of their own.
var spanOutcomes = []outcome{
	newOutcome("exported", func(c *stats.Counts) int64 { return c.Exported }),
	newOutcome("sampled_out", func(c *stats.Counts) int64 { return c.SampledOut }),
	newOutcome("filtered", func(c *stats.Counts) int64 { return c.Filtered }),
	newOutcome("dropped_queue_full", func(c *stats.Counts) int64 { return c.DroppedQueueFull }),
	newOutcome("dropped_spool_full", func(c *stats.Counts) int64 { return c.DroppedSpoolFull }),
	newOutcome("rejected_by_backend", func(c *stats.Counts) int64 { return c.RejectedByBackend }),
}

// point is one series of a histogram.
type point struct {
	// options identify the series to the SDK. Building the attributes for each
	// observation would cost more than everything else here.
	options  []metric.RecordOption
	examples examples
}

// point returns the series with the attributes of set. The SDK asks for it, too, when
// the first value is recorded.
func (f *family) point(set attribute.Set) *point {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.points[set.Equivalent()]
	if p == nil {
		p = &point{options: []metric.RecordOption{metric.WithAttributeSet(set)}}
		f.points[set.Equivalent()] = p
	}
	return p
}

// known returns the series with those attributes, if it has any value.
func (f *family) known(list []attribute.KeyValue) *point {
	set := attribute.NewSet(list...)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.points[set.Equivalent()]
}

func (f *family) record(p *point, seconds float64) {
	f.histogram.Record(context.Background(), max(seconds, 0), p.options...)
}

// retain removes the exemplars that nobody can look at.
func (m *meter) retain(retain func(map[trace.TraceID]bool)) {
	ids := make(map[trace.TraceID]bool)
	m.each(func(l *examples) { l.unsure(ids) })
	if len(ids) == 0 {
		return
	}
	retain(ids)
	m.each(func(l *examples) { l.retain(ids) })
}

func (m *meter) each(do func(*examples)) {
	for _, f := range m.families {
		f.mu.Lock()
		for _, p := range f.points {
			do(&p.examples)
		}
		f.mu.Unlock()
	}
}

// names bounds the values of an attribute.
type names struct {
	most  int
	known map[string]bool
}

func newNames(most int) names { return names{most, make(map[string]bool)} }

// of returns a name, or other if there are too many.
func (n *names) of(name, other string) string {
	if !n.known[name] {
		if len(n.known) >= n.most {
			return other
		}
		n.known[name] = true
	}
	return name
}
