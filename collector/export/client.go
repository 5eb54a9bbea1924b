package export

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"

	"clntrace/collector/otlp"
)

// client is the SDK's client for one endpoint, with its connection.
type client struct {
	otlptrace.Client
	conn *otlp.Connection // nil: it has none of its own
}

// connect prepares a client, without dialing. It is nil if the endpoint is off. Headers
// and timeout are always set: if they were not, the SDK would take them from the
// environment, against our options.
func connect(cfg otlp.Config) (*client, error) {
	if cfg.Endpoint.Off() {
		return nil, nil
	}
	conn, err := otlp.Connect(cfg, otlp.Spans)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn}
	if conn.GRPC != nil {
		c.Client = otlptracegrpc.NewClient(
			otlptracegrpc.WithGRPCConn(conn.GRPC),
			otlptracegrpc.WithHeaders(cfg.Headers),
			otlptracegrpc.WithTimeout(cfg.Timeout),
			// No limit: our requests are far below the SDK's, and measuring each of
			// them takes a tenth of all our CPU time.
			otlptracegrpc.WithMaxRequestSize(0),
			otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}),
		)
	} else {
		c.Client = overHTTP(cfg, conn)
	}
	if err := c.Start(context.Background()); err != nil {
		return nil, fmt.Errorf("starting the OTLP client for %s: %w", cfg.Endpoint, err)
	}
	return c, nil
}

func overHTTP(cfg otlp.Config, conn *otlp.Connection) otlptrace.Client {
	compression := otlptracehttp.NoCompression
	if cfg.Compression == otlp.CompressionGzip {
		compression = otlptracehttp.GzipCompression
	}
	return otlptracehttp.NewClient(
		otlptracehttp.WithEndpointURL(cfg.Endpoint.URL(otlp.Spans)),
		otlptracehttp.WithHTTPClient(conn.HTTP),
		otlptracehttp.WithHeaders(cfg.Headers),
		// TLS is up to the connection; what the environment says about it would make
		// http:// endpoints fail.
		otlptracehttp.WithTLSClientConfig(nil),
		otlptracehttp.WithEncoding(otlptracehttp.EncodingProtobuf),
		otlptracehttp.WithCompression(compression),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}),
	)
}

// Close closes the client. A request under way may still be answered, over gRPC until
// ctx is done.
func (c *client) Close(ctx context.Context) {
	// Over HTTP the SDK's client has nothing to stop but that request, whose spans
	// would then be sent twice.
	if c.conn == nil || c.conn.GRPC != nil {
		_ = c.Stop(ctx) // can only be the error of ctx, which the caller knows
	}
	if c.conn != nil {
		c.conn.Close()
	}
}
