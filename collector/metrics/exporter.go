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
)

// link is an exporter to one endpoint.
type link struct {
	sdkmetric.Exporter
	endpoint export.Endpoint
	hangUp   func()
}

// connect prepares a link; nothing is dialled yet, and nothing is for an
// endpoint that is off. Nothing is tried twice: the next figures hold all that
// those before did. Headers and timeout are always given, or the SDK would take
// them from the environment behind our options' back.
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

// otlpOnly is a transport that takes no answer but an OTLP endpoint's.
type otlpOnly struct{ next http.RoundTripper }

func (o otlpOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	response, err := o.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := export.NotOTLP(response); err != nil {
		_ = response.Body.Close() // nothing of it is of use
		return nil, err
	}
	return response, nil
}

// close ends the link after the request under way, which the SDK waits for
// whatever ctx says.
func (l *link) close(ctx context.Context) {
	_ = l.Shutdown(ctx) // the context's error, and the caller set that
	l.hangUp()
}

// exporter is what the SDK's reader exports to: it sends to whatever endpoint
// is in use, and says once what is wrong with it.
type exporter struct {
	log     *slog.Logger
	closing sync.WaitGroup // links that were replaced

	mu       sync.Mutex
	link     *link // nil: off
	resource *resource.Resource
	since    time.Time // of the outage; zero: none
	reason   string
}

var _ sdkmetric.Exporter = (*exporter)(nil)

// use sends what follows over next.
func (e *exporter) use(next *link) {
	e.mu.Lock()
	last := e.link
	e.link, e.since, e.reason = next, time.Time{}, ""
	e.mu.Unlock()
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

// Temporality is cumulative: a request that is lost loses nothing.
func (e *exporter) Temporality(kind sdkmetric.InstrumentKind) metricdata.Temporality {
	return sdkmetric.CumulativeTemporalitySelector(kind)
}

// Aggregation is the SDK's default, where no view says otherwise.
func (e *exporter) Aggregation(kind sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(kind)
}

// Export sends metrics. It returns no error: the SDK would print it each time.
func (e *exporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	e.mu.Lock()
	l, r := e.link, e.resource
	e.mu.Unlock()
	if l == nil {
		return nil
	}
	// The SDK has its resource once and for all; the node's id comes later.
	rm.Resource = r
	startBeforeEnd(rm)
	e.note(l, l.Export(ctx, rm))
	return nil
}

// startBeforeEnd gives the points that seem to end before they start, for the
// system's clock was set back, a start that by OTLP's data model is unknown.
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

// mendStart compares what will be sent: After would ask the monotonic clock.
func mendStart(start *time.Time, end time.Time) {
	if start.UnixNano() > end.UnixNano() {
		*start = end
	}
}

// note remembers how an export over l ended and logs when that changes.
func (e *exporter) note(l *link, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.link != l {
		return // replaced while it was at it
	}
	was := !e.since.IsZero()
	switch {
	case err != nil:
		e.reason = export.Brief(err.Error())
		if !was {
			e.since = time.Now()
			e.log.Warn(fmt.Sprintf("%s does not take metrics: %s (logged once; tracestats tells more)", l.endpoint, e.reason))
		}
	case was:
		e.since, e.reason = time.Time{}, ""
		e.log.Info(fmt.Sprintf("%s takes metrics again", l.endpoint))
	}
}

// ForceFlush does nothing: nothing is held back.
func (e *exporter) ForceFlush(context.Context) error { return nil }

// Shutdown hangs up, after the requests under way or at the end of ctx.
func (e *exporter) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	last := e.link
	e.link = nil
	e.mu.Unlock()
	if last != nil {
		e.closing.Go(func() { last.close(ctx) })
	}
	closed := make(chan struct{})
	go func() {
		e.closing.Wait()
		close(closed)
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
