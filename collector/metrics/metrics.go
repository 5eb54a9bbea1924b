package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"clntrace/collector/otlp"
	"clntrace/collector/payments"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

// The names of the metrics.
const (
	durationName  = "cln.span.duration"
	datagramsName = "clntrace.datagrams"
	spansName     = "clntrace.spans"
	queueName     = "clntrace.queue.size"
	spoolName     = "clntrace.spool.bytes"
)

const (
	// interval is how often metrics are sent. They are also sent at the end.
	interval = 30 * time.Second
	// maxBuckets and maxScale are the defaults of the OpenTelemetry specification
	// for exponential histograms. Even with durations from 1 µs to 1 h percentiles
	// are off by at most 9 %.
	maxBuckets = 160
	maxScale   = 20
	// maxPoints bounds the data points of one request. A point that uses all
	// buckets takes some 1.5 kB, and gRPC servers accept 4 MiB by default.
	maxPoints = 1000
)

// Options is what Start needs.
type Options struct {
	Config      otlp.Config
	ServiceName string // for all processes; empty: each has its own
	Version     string // of clntrace
	Logger      *slog.Logger
	Voice       voice.Voice
	// Resource is clntrace itself.
	Resource *resource.Resource
	Counts   func() stats.Counts // of everything since the start
	// SpoolBytes returns the size of the spool on disk.
	SpoolBytes func() int64
	// Payments returns what is open of payments and forwards; false: nothing of them is
	// to leave. It may be nil.
	Payments func() (payments.State, bool)
}

// Metrics are the OTLP metrics of a collector.
type Metrics struct {
	options  Options
	exporter *exporter
	provider *sdkmetric.MeterProvider
	duration metric.Float64Histogram
	payments paymentMetrics
	series   map[operation]series
	service  string // as ServiceName
}

// Start begins to send metrics. The error says what in the configuration cannot be
// used.
func Start(o Options) (*Metrics, error) {
	m := &Metrics{
		options: o, exporter: &exporter{log: o.Logger, voice: o.Voice, resource: o.Resource},
		series: make(map[operation]series), service: o.ServiceName,
	}
	if err := m.Use(o.Config); err != nil {
		return nil, err
	}
	reader := sdkmetric.NewPeriodicReader(m.exporter,
		sdkmetric.WithInterval(interval), sdkmetric.WithTimeout(o.Config.Timeout), sdkmetric.WithMaxExportBatchSize(maxPoints))
	m.provider = sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(reader),
		sdkmetric.WithCardinalityLimit(maxSeries+spareSeries),
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter), // exemplars would need spans of our own
		sdkmetric.WithView(sdkmetric.NewView(
			sdkmetric.Instrument{Name: "cln.*.duration"},
			sdkmetric.Stream{Aggregation: sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: maxBuckets, MaxScale: maxScale}},
		)),
	)
	if err := m.define(); err != nil {
		return nil, errors.Join(err, m.provider.Shutdown(context.Background()))
	}
	return m, nil
}

// define makes the instruments.
func (m *Metrics) define() error {
	meter := m.provider.Meter("clntrace", metric.WithInstrumentationVersion(m.options.Version), metric.WithSchemaURL(semconv.SchemaURL))
	var errs [7]error
	m.duration, errs[0] = meter.Float64Histogram(durationName, metric.WithUnit("s"),
		metric.WithDescription("Durations of the node's spans, exported or not."))
	datagrams, err := meter.Int64ObservableCounter(datagramsName, metric.WithUnit("{datagram}"),
		metric.WithDescription("Datagrams that arrived on the trace socket, by what became of them."))
	errs[1] = err
	spans, err := meter.Int64ObservableCounter(spansName, metric.WithUnit("{span}"),
		metric.WithDescription("Spans that have left clntrace, by the way they went."))
	errs[2] = err
	queue, err := meter.Int64ObservableUpDownCounter(queueName, metric.WithUnit("{span}"),
		metric.WithDescription("Spans in memory that wait for export."))
	errs[3] = err
	spool, err := meter.Int64ObservableUpDownCounter(spoolName, metric.WithUnit("By"),
		metric.WithDescription("Size of the spool on disk."))
	errs[4] = err
	_, errs[5] = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		c := m.options.Counts()
		for i := range datagramOutcomes {
			o.ObserveInt64(datagrams, datagramOutcomes[i].count(&c), datagramOutcomes[i].attribute)
		}
		for i := range spanOutcomes {
			o.ObserveInt64(spans, spanOutcomes[i].count(&c), spanOutcomes[i].attribute)
		}
		o.ObserveInt64(queue, c.Pending)
		o.ObserveInt64(spool, m.options.SpoolBytes())
		return nil
	}, datagrams, spans, queue, spool)
	errs[6] = m.definePayments(meter)
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("defining the metrics: %w", err)
	}
	return nil
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

// Use sends everything that follows to cfg's endpoint. An error says what in cfg
// cannot be used, and means that nothing has changed.
func (m *Metrics) Use(cfg otlp.Config) error {
	next, err := connect(cfg)
	if err != nil {
		return err
	}
	m.exporter.use(next, cfg)
	return nil
}

// SetResource replaces the Resource, once more is known of the node.
func (m *Metrics) SetResource(r *resource.Resource) { m.exporter.setResource(r) }

// Outage returns since when the endpoint takes no metrics, why, and what to do. since
// is zero if it does take them.
func (m *Metrics) Outage() (since time.Time, reason string) { return m.exporter.outage() }

// Shutdown sends the final figures and stops, at the latest when ctx is done.
func (m *Metrics) Shutdown(ctx context.Context) {
	_ = m.provider.Shutdown(ctx) // the exporter has logged its error
}
