package otlptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"clntrace/tests/wait"
)

// Request is one export request.
type Request struct {
	Spans []Span
	// Traces is the same as it came. Only an Answer gets it.
	Traces ptrace.Traces
	// Metadata are the request's headers.
	Metadata client.Metadata
}

// Answer decides about a request: nil accepts it. A gRPC status is sent as it
// is, any other error as UNAVAILABLE. ctx ends when the client gives up and
// when the receiver stops, so an Answer that never answers waits for it.
type Answer func(ctx context.Context, r Request) error

// Receiver is an OTLP endpoint. It keeps the spans that it accepted over
// any number of stops and starts, each time on the same addresses.
type Receiver struct {
	grpcAddress, httpAddress string
	network                  confignet.TransportType // of gRPC: TCP or unix
	tls                      *TLSFiles               // nil: plaintext

	mu       sync.Mutex
	changed  chan struct{} // closed, and made anew, whenever what is below changes
	answer   Answer
	requests []Request // accepted or not
	spans    []Span    // of accepted requests
	metrics  []pmetric.Metrics

	running *running // nil while stopped
}

// running is one life of the receiver between Start and Stop.
type running struct {
	traces, metrics receiver.Traces
	stopped         context.CancelFunc
}

// Start starts a receiver that accepts everything, and stops it with the test.
func Start(t testing.TB) *Receiver {
	t.Helper()
	r := Reserve(t)
	r.Start(t)
	return r
}

// Reserve makes a receiver that knows its addresses, but does not listen.
func Reserve(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{
		grpcAddress: FreeAddress(t),
		httpAddress: FreeAddress(t),
		network:     confignet.TransportTypeTCP,
		changed:     make(chan struct{}),
	}
	t.Cleanup(func() { r.Stop(t) })
	return r
}

// StartUnix starts a receiver whose gRPC listens on a unix socket.
func StartUnix(t testing.TB, path string) *Receiver {
	t.Helper()
	r := Reserve(t)
	r.grpcAddress, r.network = path, confignet.TransportTypeUnix
	r.Start(t)
	return r
}

// StartTLS starts a receiver that shows a certificate and demands one.
func StartTLS(t testing.TB) (*Receiver, TLSFiles) {
	t.Helper()
	r, files := Reserve(t), newTLSFiles(t)
	r.tls = &files
	r.Start(t)
	return r, files
}

// GRPCEndpoint is the URL for OTLP over gRPC.
func (r *Receiver) GRPCEndpoint() string {
	if r.network == confignet.TransportTypeUnix {
		return "unix://" + r.grpcAddress
	}
	return r.scheme() + r.grpcAddress
}

// HTTPEndpoint is the URL for OTLP over HTTP.
func (r *Receiver) HTTPEndpoint() string { return r.scheme() + r.httpAddress }

func (r *Receiver) scheme() string {
	if r.tls != nil {
		return "https://"
	}
	return "http://"
}

// Start listens. Does nothing if the receiver already does.
func (r *Receiver) Start(t testing.TB) {
	t.Helper()
	if r.running != nil {
		return
	}
	// A process that the test is just starting has, for a moment, this one's
	// listeners, also one that was closed meanwhile.
	deadline := time.Now().Add(wait.Limit)
	for {
		ctx, cancel := context.WithCancel(context.Background())
		started, err := r.start(ctx)
		if err == nil {
			started.stopped = cancel
			r.running = started
			return
		}
		cancel()
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			t.Fatalf("starting the OTLP receiver on %s and %s: %v", r.grpcAddress, r.httpAddress, err)
		}
		runtime.Gosched()
	}
}

func (r *Receiver) start(ctx context.Context) (*running, error) {
	cfg, factory := r.config(), otlpreceiver.NewFactory()
	settings := receivertest.NewNopSettings(factory.Type())
	consumeTraces, err := consumer.NewTraces(func(request context.Context, td ptrace.Traces) error {
		return r.consume(request, ctx, td)
	})
	if err != nil {
		return nil, err
	}
	consumeMetrics, err := consumer.NewMetrics(func(_ context.Context, md pmetric.Metrics) error {
		r.keepMetrics(md)
		return nil
	})
	if err != nil {
		return nil, err
	}
	started := &running{}
	if started.traces, err = factory.CreateTraces(ctx, settings, cfg, consumeTraces); err != nil {
		return nil, err
	}
	if started.metrics, err = factory.CreateMetrics(ctx, settings, cfg, consumeMetrics); err != nil {
		return nil, err
	}
	host := componenttest.NewNopHost()
	if err := errors.Join(started.traces.Start(ctx, host), started.metrics.Start(ctx, host)); err != nil {
		return nil, errors.Join(err, started.shutdown())
	}
	return started, nil
}

// shutdown ends what start began.
func (r *running) shutdown() error {
	ctx := context.Background()
	return errors.Join(r.traces.Shutdown(ctx), r.metrics.Shutdown(ctx))
}

func (r *Receiver) config() *otlpreceiver.Config {
	cfg := otlpreceiver.NewFactory().CreateDefaultConfig().(*otlpreceiver.Config)
	grpc := cfg.Protocols.GRPC.GetOrInsertDefault()
	grpc.NetAddr = confignet.AddrConfig{Endpoint: r.grpcAddress, Transport: r.network}
	grpc.IncludeMetadata = true
	http := cfg.Protocols.HTTP.GetOrInsertDefault()
	http.ServerConfig.NetAddr.Endpoint = r.httpAddress
	http.ServerConfig.IncludeMetadata = true
	if r.tls != nil {
		grpc.TLS = configoptional.Some(r.tls.server())
		http.ServerConfig.TLS = configoptional.Some(r.tls.server())
	}
	return cfg
}

// Stop refuses connections from here on. Does nothing if the receiver is stopped.
func (r *Receiver) Stop(t testing.TB) {
	t.Helper()
	if r.running == nil {
		return
	}
	r.running.stopped() // releases an Answer that hangs, for which the shutdown would wait
	if err := r.running.shutdown(); err != nil {
		t.Errorf("stopping the OTLP receiver: %v", err)
	}
	r.running = nil
}

// SetAnswer lets a decide about the requests from here on; nil accepts all.
func (r *Receiver) SetAnswer(a Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = a
}

func (r *Receiver) consume(ctx, running context.Context, td ptrace.Traces) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(running, cancel)()

	request := Request{Spans: SpansOf(td), Metadata: client.FromContext(ctx).Metadata}
	r.mu.Lock()
	answer := r.answer
	r.requests = append(r.requests, request)
	r.announce()
	r.mu.Unlock()
	request.Traces = td

	if answer != nil {
		if err := answer(ctx, request); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = append(r.spans, request.Spans...)
	r.announce()
	return nil
}

func (r *Receiver) keepMetrics(md pmetric.Metrics) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.metrics = append(r.metrics, md)
	r.announce()
}

// announce wakes every wait. The caller holds mu.
func (r *Receiver) announce() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// The ports that FreeAddress tries. They are below those that the kernel gives
// to outgoing connections: a connection would keep a port from being bound
// that was free a moment ago.
const firstPort, ports = 20_000, 12_000

// nextPort is where FreeAddress goes on. Test processes that run at the same
// time begin at different places.
var nextPort atomic.Uint32

func init() { nextPort.Store(uint32(os.Getpid()*97) % ports) }

// FreeAddress is a loopback address on which nobody listens, and which it
// returns once only. The receiver does not tell which port it got if it is
// asked for any, so one is picked beforehand.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+nextPort.Add(1)%ports)
		conn, err := net.Dial("tcp", address)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return address
		}
		if err == nil {
			conn.Close()
		}
	}
	t.Fatal("no free port")
	return ""
}
