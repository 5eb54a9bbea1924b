package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"clntrace/collector/otlp"
	"clntrace/collector/voice"
)

// client is the SDK's exporter for one endpoint, with its connection.
type client struct {
	sdkmetric.Exporter
	conn *otlp.Connection
}

// Close closes the client after its request. The SDK waits for that even when ctx is
// done.
func (c *client) Close(ctx context.Context) {
	_ = c.Shutdown(ctx) // can only be the error of ctx, which the caller knows
	c.conn.Close()
}

// connect prepares a client, without dialing. It is nil if the endpoint is off. There
// are no retries, because the next request contains everything that this one did.
// Headers and timeout are always set: if they were not, the SDK would take them from
// the environment, against our options.
func connect(cfg otlp.Config) (*client, error) {
	if cfg.Endpoint.Off() {
		return nil, nil
	}
	conn, err := otlp.Connect(cfg, otlp.Metrics)
	if err != nil {
		return nil, err
	}
	over := overGRPC
	if conn.HTTP != nil {
		over = overHTTP
	}
	e, err := over(cfg, conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("preparing to send metrics to %s: %w", cfg.Endpoint, err)
	}
	return &client{e, conn}, nil
}

func overGRPC(cfg otlp.Config, conn *otlp.Connection) (sdkmetric.Exporter, error) {
	return otlpmetricgrpc.New(context.Background(),
		otlpmetricgrpc.WithGRPCConn(conn.GRPC),
		otlpmetricgrpc.WithHeaders(cfg.Headers),
		otlpmetricgrpc.WithTimeout(cfg.Timeout),
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: false}),
		otlpmetricgrpc.WithTemporalitySelector(sdkmetric.CumulativeTemporalitySelector),
		otlpmetricgrpc.WithAggregationSelector(sdkmetric.DefaultAggregationSelector),
	)
}

func overHTTP(cfg otlp.Config, conn *otlp.Connection) (sdkmetric.Exporter, error) {
	compression := otlpmetrichttp.NoCompression
	if cfg.Compression == otlp.CompressionGzip {
		compression = otlpmetrichttp.GzipCompression
	}
	return otlpmetrichttp.New(context.Background(),
		otlpmetrichttp.WithEndpointURL(cfg.Endpoint.URL(otlp.Metrics)),
		otlpmetrichttp.WithHTTPClient(conn.HTTP),
		otlpmetrichttp.WithHeaders(cfg.Headers),
		otlpmetrichttp.WithTLSClientConfig(nil), // TLS is the connection's
		otlpmetrichttp.WithCompression(compression),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: false}),
		otlpmetrichttp.WithTemporalitySelector(sdkmetric.CumulativeTemporalitySelector),
		otlpmetrichttp.WithAggregationSelector(sdkmetric.DefaultAggregationSelector),
	)
}

// exporter is what the SDK's reader exports to. It sends to the endpoint that is in
// use, and logs once what is wrong with it. The lock of the link covers all of it.
type exporter struct {
	log   *slog.Logger
	voice voice.Voice
	link  otlp.Link[*client]
	hides func(name, span, detail string) bool // which series may not leave

	resource *resource.Resource
	since    time.Time // of the outage; zero: none
	reason   string    // for it, with the remedy
}

var _ sdkmetric.Exporter = (*exporter)(nil)

// use makes next, which sends as cfg says, the client for everything that follows.
func (e *exporter) use(next *client, cfg otlp.Config) {
	e.link.Replace(next, cfg, func() { e.since, e.reason = time.Time{}, "" })
}

func (e *exporter) setResource(r *resource.Resource) {
	e.link.Lock()
	defer e.link.Unlock()
	e.resource = r
}

func (e *exporter) outage() (since time.Time, reason string) {
	e.link.Lock()
	defer e.link.Unlock()
	return e.since, e.reason
}

// Temporality is cumulative, so that a lost request loses nothing.
func (e *exporter) Temporality(kind sdkmetric.InstrumentKind) metricdata.Temporality {
	return sdkmetric.CumulativeTemporalitySelector(kind)
}

// Aggregation is exponential for histograms.
func (e *exporter) Aggregation(kind sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return exponentially(kind)
}

// exponentially is the SDK's default with exponential histograms.
func exponentially(kind sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	if kind == sdkmetric.InstrumentKindHistogram {
		return exponential
	}
	return sdkmetric.DefaultAggregationSelector(kind)
}

// Export sends metrics. It returns no error, because the SDK would print it each
// time.
func (e *exporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	c, _ := e.link.Current()
	if c == nil {
		return nil
	}
	// The SDK's own resource is fixed before the node's id is known.
	e.link.Lock()
	rm.Resource = e.resource
	e.link.Unlock()
	startBeforeEnd(rm)
	if e.hides != nil {
		hide(rm, e.hides)
	}
	e.note(c, c.send(ctx, rm))
	return nil
}

const (
	// attempts is how many there are at a request. Its connection is given up when the
	// first one times out, and gRPC may notice that only by the second.
	attempts = 3
	// settle is how long gRPC is left to notice it.
	settle = 100 * time.Millisecond
)

// requestTime bounds a request with all its attempts, each of which may take timeout.
func requestTime(timeout time.Duration) time.Duration { return 2*timeout + attempts*settle }

// send sends metrics, and returns why they were not taken, or not all of them. When
// nobody has answered it sends them again over a new connection: the old one may be
// forgotten by something in between, and half a minute would pass before the next
// request.
func (c *client) send(ctx context.Context, rm *metricdata.ResourceMetrics) *otlp.Failure {
	failure := otlp.FailureOf(c.Export(ctx, rm))
	if failure == nil || !failure.TimedOut {
		return failure
	}
	for n := 1; n < attempts; n++ {
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return failure
		}
		if failure = otlp.FailureOf(c.Export(ctx, rm)); failure == nil || failure.TimedOut || !failure.Reached {
			return failure
		}
	}
	return failure
}

// startBeforeEnd corrects data points that seem to end before they start, because
// the system's clock was set back: start and end become the same, which in OTLP's
// data model means that the start is unknown.
func startBeforeEnd(rm *metricdata.ResourceMetrics) {
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) { // of the instruments that this package has
			case metricdata.ExponentialHistogram[float64]:
				for i := range data.DataPoints {
					mendStart(&data.DataPoints[i].StartTime, data.DataPoints[i].Time)
				}
			case metricdata.Sum[int64]:
				for i := range data.DataPoints {
					mendStart(&data.DataPoints[i].StartTime, data.DataPoints[i].Time)
				}
			}
		}
	}
}

// mendStart compares the times as they will be sent. After would compare the
// monotonic clock instead.
func mendStart(start *time.Time, end time.Time) {
	if start.UnixNano() > end.UnixNano() {
		*start = end
	}
}

// note records how an export over c ended, and logs if that has changed.
func (e *exporter) note(c *client, failure *otlp.Failure) {
	e.link.Lock()
	defer e.link.Unlock()
	if !e.link.InUse(c) {
		return // it was replaced meanwhile
	}
	was, to := !e.since.IsZero(), e.link.Config().Endpoint
	switch {
	case failure != nil:
		e.reason = failure.Explain(e.voice)
		if !was {
			e.since = time.Now()
			e.log.Warn(fmt.Sprintf("%s does not take metrics: %s%s", to, e.reason, e.voice.Say(" (logged once; {statistics} tells more)")))
		}
	case was:
		e.since, e.reason = time.Time{}, ""
		e.log.Info(fmt.Sprintf("%s takes metrics again", to))
	}
}

// ForceFlush does nothing, because nothing is held back.
func (e *exporter) ForceFlush(context.Context) error { return nil }

// Shutdown closes all clients after the requests under way. It returns the error of
// ctx if that is done first.
func (e *exporter) Shutdown(ctx context.Context) error { return e.link.Close(ctx) }
