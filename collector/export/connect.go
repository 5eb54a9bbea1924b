package export

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
)

// maxReconnectDelay bounds gRPC's own back-off. It would go up to two minutes, for
// which nobody would notice that the backend is back.
const maxReconnectDelay = 5 * time.Second

// link is the SDK's client for one endpoint.
type link struct {
	client otlptrace.Client
	conn   *grpc.ClientConn // of gRPC
	pool   *http.Transport  // of HTTP
}

// connect prepares a link, without dialing. The link is nil if the endpoint is off.
func connect(cfg Config) (*link, error) {
	if cfg.Endpoint.Off() {
		return nil, nil
	}
	dial := connectGRPC
	if cfg.Protocol == ProtocolHTTP {
		dial = connectHTTP
	}
	l, err := dial(cfg)
	if err != nil {
		return nil, err
	}
	if err := l.client.Start(context.Background()); err != nil {
		return nil, fmt.Errorf("starting the OTLP client for %s: %w", cfg.Endpoint, err)
	}
	return l, nil
}

func connectGRPC(cfg Config) (*link, error) {
	conn, err := DialGRPC(cfg, grpc.WithUnaryInterceptor(observeGRPC))
	if err != nil {
		return nil, err
	}
	// Headers and timeout are always set: if they were not, the SDK would take them
	// from the environment, against our options.
	return &link{conn: conn, client: otlptracegrpc.NewClient(
		otlptracegrpc.WithGRPCConn(conn),
		otlptracegrpc.WithHeaders(cfg.Headers),
		otlptracegrpc.WithTimeout(cfg.Timeout),
		// No limit: our requests are far below the SDK's, and measuring each of them
		// takes a tenth of all our CPU time.
		otlptracegrpc.WithMaxRequestSize(0),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}),
	)}, nil
}

func connectHTTP(cfg Config) (*link, error) {
	transport, err := HTTPTransport(cfg)
	if err != nil {
		return nil, err
	}
	compression := otlptracehttp.NoCompression
	if cfg.Compression == CompressionGzip {
		compression = otlptracehttp.GzipCompression
	}
	return &link{pool: transport, client: otlptracehttp.NewClient(
		otlptracehttp.WithEndpointURL(cfg.Endpoint.tracesURL()),
		otlptracehttp.WithHTTPClient(HTTPClient(cfg, observeHTTP{transport})),
		// Set for the same reason as above. TLS is up to the transport; what the
		// environment says about it would make http:// endpoints fail.
		otlptracehttp.WithHeaders(cfg.Headers),
		otlptracehttp.WithTLSClientConfig(nil),
		otlptracehttp.WithEncoding(otlptracehttp.EncodingProtobuf),
		otlptracehttp.WithCompression(compression),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}),
	)}, nil
}

// DialGRPC prepares a connection to cfg's endpoint, without dialing. The error says
// which file of cfg cannot be used.
func DialGRPC(cfg Config, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	tlsConfig, err := loadTLS(cfg)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if cfg.Endpoint.tls {
		creds = credentials.NewTLS(tlsConfig)
	}
	options := append(more,
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: backoff.DefaultConfig.BaseDelay, Multiplier: backoff.DefaultConfig.Multiplier,
				Jitter: backoff.DefaultConfig.Jitter, MaxDelay: maxReconnectDelay,
			},
			MinConnectTimeout: cfg.Timeout,
		}))
	if cfg.Compression == CompressionGzip {
		options = append(options, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	}
	// gRPC reads a URL: it would take escapes out, and the zone of an address
	// for one.
	target := url.URL{Scheme: "dns", Path: "/" + cfg.Endpoint.host}
	if cfg.Endpoint.unix {
		target = url.URL{Scheme: "unix", Path: cfg.Endpoint.host}
	}
	conn, err := grpc.NewClient(target.String(), options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", cfg.Endpoint, err)
	}
	return conn, nil
}

// HTTPTransport returns a transport for requests to cfg's endpoint. The error says
// which file of cfg cannot be used.
func HTTPTransport(cfg Config) (*http.Transport, error) {
	tlsConfig, err := loadTLS(cfg)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: cfg.Timeout,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     90 * time.Second,
	}
	if cfg.Endpoint.unix {
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", cfg.Endpoint.host)
		}
	}
	return transport, nil
}

// HTTPClient returns a client for requests to cfg's endpoint. It follows no
// redirects: the headers, which may be secrets, are for that endpoint alone, and a
// POST that becomes a GET delivers nothing.
func HTTPClient(cfg Config, transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport, Timeout: cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// close closes the link. A request under way may still be answered, with gRPC until
// ctx is done.
func (l *link) close(ctx context.Context) {
	if l.pool != nil {
		// The SDK's HTTP client has nothing to stop but that request, whose
		// spans would then be sent twice.
		l.pool.CloseIdleConnections()
		return
	}
	_ = l.client.Stop(ctx) // can only be the error of ctx, which the caller knows
	if l.conn != nil {
		_ = l.conn.Close() // fails only if it was closed before
	}
}

// Await waits for links that are being closed. It returns the error of ctx if that is
// done first.
func Await(ctx context.Context, closing *sync.WaitGroup) error {
	closed := make(chan struct{})
	go func() {
		closing.Wait()
		close(closed)
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Where spans and metrics go in OTLP over HTTP.
const (
	tracesPath  = "/v1/traces"
	metricsPath = "/v1/metrics"
)

// tracesURL is where spans go in OTLP over HTTP: below the endpoint, unless that
// already is the whole path.
func (e Endpoint) tracesURL() string {
	if e.whole {
		return e.url("/" + strings.TrimPrefix(e.path, "/"))
	}
	return e.url(e.base() + tracesPath)
}

// MetricsURL is where metrics go in OTLP over HTTP: beside the spans.
func (e Endpoint) MetricsURL() string { return e.url(e.base() + metricsPath) }

// base is the path below which each signal has its own path. If the endpoint is for
// spans alone, and not at the usual path, it does not say where metrics go; then
// they go to their usual path.
func (e Endpoint) base() string {
	base, usual := strings.CutSuffix(e.path, tracesPath)
	if e.whole && !usual {
		return ""
	}
	return strings.TrimSuffix(base, "/")
}

func (e Endpoint) url(path string) string {
	u := url.URL{Scheme: "http", Host: e.host, Path: path}
	if e.tls {
		u.Scheme = "https"
	}
	if e.unix {
		u.Host = "localhost"
	}
	return u.String()
}
