package otlp

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
)

// maxReconnectDelay bounds gRPC's own back-off. It would go up to two minutes, for
// which nobody would notice that the backend is back.
const maxReconnectDelay = 5 * time.Second

// The SDK's clients read the environment, though only our options count, and log what
// they do not understand to standard error: headers, too, which are secrets.
func init() { otel.SetLogger(logr.Discard()) }

// Connection is what a client of the SDK sends over. Requests over it fail with a
// Failure, in so far as it is the connection or the endpoint that they fail for.
type Connection struct {
	GRPC *grpc.ClientConn // nil over HTTP
	HTTP *http.Client     // nil over gRPC
	pool *http.Transport  // of HTTP
}

// Connect prepares a connection to cfg's endpoint for one signal, without dialing. The
// error says which file of cfg cannot be used.
func Connect(cfg Config, s *Signal) (*Connection, error) {
	open := &sockets{patience: s.patience}
	if cfg.Protocol == ProtocolHTTP {
		pool, err := newPool(cfg, open)
		if err != nil {
			return nil, err
		}
		return &Connection{HTTP: &http.Client{Transport: transport{pool, cfg, s, open}}, pool: pool}, nil
	}
	conn, err := dialGRPC(cfg, open, grpc.WithUnaryInterceptor(interceptor{cfg, s, open}.intercept))
	if err != nil {
		return nil, err
	}
	return &Connection{GRPC: conn}, nil
}

// Close closes the connection. Requests under way over HTTP still get their answer.
func (c *Connection) Close() {
	if c.GRPC != nil {
		_ = c.GRPC.Close() // fails only if it was closed before
		return
	}
	c.pool.CloseIdleConnections()
}

func dialGRPC(cfg Config, open *sockets, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	tlsConfig, err := loadTLS(cfg)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if cfg.Endpoint.tls {
		creds = credentials.NewTLS(tlsConfig)
	}
	options := append(more,
		grpc.WithTransportCredentials(handshakes{creds, open}),
		// A service config would be asked for in DNS, as a TXT record, and waited for;
		// nobody has one for an OTLP endpoint.
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: backoff.DefaultConfig.BaseDelay, Multiplier: backoff.DefaultConfig.Multiplier,
				Jitter: backoff.DefaultConfig.Jitter, MaxDelay: maxReconnectDelay,
			},
			MinConnectTimeout: min(cfg.Timeout, dialTimeout),
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

// newPool returns the connections for HTTP. The client over them has no timeout of its
// own, for that would hide the Failure.
func newPool(cfg Config, open *sockets) (*http.Transport, error) {
	tlsConfig, err := loadTLS(cfg)
	if err != nil {
		return nil, err
	}
	pool := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         open.dial,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: min(cfg.Timeout, dialTimeout),
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     90 * time.Second,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("the proxy answered the connect handshake with HTTP %s", answer.Status)
			}
			return nil
		},
	}
	if cfg.Endpoint.unix {
		pool.Proxy = nil
		pool.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return open.dial(ctx, "unix", cfg.Endpoint.host)
		}
	}
	return pool, nil
}
