package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"clntrace/collector/export"
	"clntrace/collector/text"
)

// link is the SDK's exporter for one endpoint.
type link struct {
	sdkmetric.Exporter
	endpoint export.Endpoint
	hangUp   func()
}

// connect prepares a link, without dialing. The link is nil if the endpoint is off.
// There are no retries, because the next request contains everything that this one
// did. Headers and timeout are always set: if they were not, the SDK would take
// them from the environment, against our options.
func connect(cfg export.Config) (*link, error) {
	switch {
	case cfg.Endpoint.Off():
		return nil, nil
	case cfg.Protocol == export.ProtocolHTTP:
		return connectHTTP(cfg)
	}
	conn, err := export.DialGRPC(cfg)
	if err != nil {
		return nil, err
	}
	e, err := otlpmetricgrpc.New(context.Background(),
		otlpmetricgrpc.WithGRPCConn(conn),
		otlpmetricgrpc.WithHeaders(cfg.Headers),
		otlpmetricgrpc.WithTimeout(cfg.Timeout),
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: false}),
		otlpmetricgrpc.WithTemporalitySelector(sdkmetric.CumulativeTemporalitySelector),
		otlpmetricgrpc.WithAggregationSelector(sdkmetric.DefaultAggregationSelector),
	)
	if err != nil {
		_ = conn.Close() // only fails when closed before
		return nil, fmt.Errorf("preparing to send metrics to %s: %w", cfg.Endpoint, err)
	}
	return &link{e, cfg.Endpoint, func() { _ = conn.Close() }}, nil // as above
}

func connectHTTP(cfg export.Config) (*link, error) {
	transport, err := export.HTTPTransport(cfg)
	if err != nil {
		return nil, err
	}
	compression := otlpmetrichttp.NoCompression
	if cfg.Compression == export.CompressionGzip {
		compression = otlpmetrichttp.GzipCompression
	}
	e, err := otlpmetrichttp.New(context.Background(),
		otlpmetrichttp.WithEndpointURL(cfg.Endpoint.MetricsURL()),
		otlpmetrichttp.WithHTTPClient(export.HTTPClient(cfg, otlpOnly{transport})),
		otlpmetrichttp.WithHeaders(cfg.Headers),
		otlpmetrichttp.WithTLSClientConfig(nil), // TLS is the transport's
		otlpmetrichttp.WithCompression(compression),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: false}),
		otlpmetrichttp.WithTemporalitySelector(sdkmetric.CumulativeTemporalitySelector),
		otlpmetrichttp.WithAggregationSelector(sdkmetric.DefaultAggregationSelector),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing to send metrics to %s: %w", cfg.Endpoint, err)
	}
	return &link{e, cfg.Endpoint, transport.CloseIdleConnections}, nil
}

// otlpOnly is a transport that accepts only answers of an OTLP endpoint.
type otlpOnly struct{ next http.RoundTripper }

func (o otlpOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	response, err := o.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := export.NotOTLP(response); err != nil {
		_ = response.Body.Close() // the body is not used
		return nil, err
	}
	return response, nil
}

// close closes the link after the request under way. The SDK waits for that even
// when ctx is done.
func (l *link) close(ctx context.Context) {
	_ = l.Shutdown(ctx) // can only be the error of ctx, which the caller knows
	l.hangUp()
}

// exporter is what the SDK's reader exports to. It sends to the endpoint that is in
// use, and logs once what is wrong with it.
type exporter struct {
	log     *slog.Logger
	closing sync.WaitGroup // links that are being closed; only grows under mu, and not once stopped

	mu       sync.Mutex
	stopped  bool
	link     *link // nil: off
	resource *resource.Resource
	since    time.Time // of the outage; zero: none
	reason   string
}

var _ sdkmetric.Exporter = (*exporter)(nil)

// use makes next the link for everything that follows, and closes the last one.
// After Shutdown nothing follows, and next is closed instead.
func (e *exporter) use(next *link) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		if next != nil {
			next.close(context.Background()) // at once, for it has no request
		}
		return
	}
	last := e.link
	e.link, e.since, e.reason = next, time.Time{}, ""
	if last != nil {
		e.closing.Go(func() { last.close(context.Background()) }) // after its request, which has a timeout
	}
}

func (e *exporter) setResource(r *resource.Resource) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.resource = r
}

func (e *exporter) outage() (since time.Time, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.since, e.reason
}

// Temporality is cumulative, so that a lost request loses nothing.
func (e *exporter) Temporality(kind sdkmetric.InstrumentKind) metricdata.Temporality {
	return sdkmetric.CumulativeTemporalitySelector(kind)
}

// Aggregation is the SDK's default, unless a view says otherwise.
func (e *exporter) Aggregation(kind sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(kind)
}

// Export sends metrics. It returns no error, because the SDK would print it each
// time.
func (e *exporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	e.mu.Lock()
	l, r := e.link, e.resource
	e.mu.Unlock()
	if l == nil {
		return nil
	}
	// The SDK's own resource is fixed before the node's id is known.
	rm.Resource = r
	startBeforeEnd(rm)
	e.note(l, l.Export(ctx, rm))
	return nil
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

// note records how an export over l ended, and logs if that has changed.
func (e *exporter) note(l *link, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.link != l {
		return // it was replaced meanwhile
	}
	was := !e.since.IsZero()
	switch {
	case err != nil:
		e.reason = text.Brief(err.Error())
		if !was {
			e.since = time.Now()
			e.log.Warn(fmt.Sprintf("%s does not take metrics: %s (logged once; tracestats tells more)", l.endpoint, e.reason))
		}
	case was:
		e.since, e.reason = time.Time{}, ""
		e.log.Info(fmt.Sprintf("%s takes metrics again", l.endpoint))
	}
}

// ForceFlush does nothing, because nothing is held back.
func (e *exporter) ForceFlush(context.Context) error { return nil }

// Shutdown closes all links after the requests under way. It returns the error of
// ctx if that is done first.
func (e *exporter) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	last := e.link
	e.link, e.stopped = nil, true
	if last != nil {
		e.closing.Go(func() { last.close(ctx) })
	}
	e.mu.Unlock()
	return export.Await(ctx, &e.closing)
}
