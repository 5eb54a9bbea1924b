package metrics

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"clntrace/collector/export"
)

// overHTTP is a config for an endpoint that answers as handle does.
func overHTTP(t *testing.T, handle http.HandlerFunc) export.Config {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	cfg := config(t, &receiver{endpoint: server.URL})
	cfg.Protocol = export.ProtocolHTTP
	return cfg
}

func TestWhatIsNoOTLPEndpoint(t *testing.T) {
	var followed atomic.Int64
	other := overHTTP(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for want, handle := range map[string]http.HandlerFunc{
		"HTTP 302 Found: a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.Endpoint.MetricsURL(), http.StatusFound)
		},
		"a web page": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>Log in</html>") },
	} {
		var log bytes.Buffer
		m := start(t, overHTTP(t, handle), &log)
		m.Observe(observed)
		m.flush(t)
		if _, reason := m.Outage(); !strings.Contains(reason, want) {
			t.Errorf("the reason is %q, want %q", reason, want)
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d requests went to the other host", n)
	}
}

// A CA for all exporters must not keep metrics from an http:// endpoint.
func TestCertificatesOfTheEnvironmentAreNotUsed(t *testing.T) {
	secure := httptest.NewTLSServer(nil)
	t.Cleanup(secure.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	setEnvironment(t)
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", file)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "1")
	overGRPC, overHTTP := listenGRPC(t), listenHTTP(t)
	for protocol, r := range map[export.Protocol]*receiver{export.ProtocolGRPC: overGRPC, export.ProtocolHTTP: overHTTP} {
		cfg := config(t, r)
		cfg.Protocol = protocol
		m := start(t, cfg, io.Discard)
		m.Observe(observed)
		m.flush(t)
		if in, _ := r.last(); in == nil {
			t.Errorf("%s: nothing arrived", protocol)
		}
	}
}

// A request under way, to whichever endpoint, must not hold up the shutdown.
func TestShutdownEndsWithItsContext(t *testing.T) {
	for what, replace := range map[string]bool{"endpoint in use": false, "endpoint that was replaced": true} {
		t.Run(what, func(t *testing.T) {
			arrived, answer, exported := make(chan struct{}), make(chan struct{}), make(chan struct{})
			cfg := overHTTP(t, func(http.ResponseWriter, *http.Request) {
				close(arrived)
				<-answer
			})
			cfg.Timeout = time.Hour // the request ends when it is answered, not before
			l, err := connect(cfg)
			if err != nil {
				t.Fatal(err)
			}
			e := &exporter{log: slog.New(slog.DiscardHandler), link: l, resource: resource.Empty()}
			go func() {
				_ = e.Export(context.Background(), new(metricdata.ResourceMetrics))
				close(exported)
			}()
			<-arrived
			if replace {
				e.use(nil)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			// The request is answered only after Shutdown has returned.
			if err := e.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			close(answer)
			<-exported
			e.closing.Wait()
		})
	}
}

// A change of the endpoint may come while the node stops: whichever is first, no
// link stays open.
func TestNoLinkStaysOpenIfUseAndShutdownComeTogether(t *testing.T) {
	cfg := overHTTP(t, func(http.ResponseWriter, *http.Request) {})
	for range 100 {
		var open atomic.Int32
		newLink := func() *link {
			l, err := connect(cfg)
			if err != nil {
				t.Fatal(err)
			}
			open.Add(1)
			return &link{l.Exporter, l.endpoint, func() { l.hangUp(); open.Add(-1) }}
		}
		next := newLink()
		e := &exporter{log: slog.New(slog.DiscardHandler), link: newLink(), resource: resource.Empty()}
		used := make(chan struct{})
		go func() {
			defer close(used)
			e.use(next)
		}()
		if err := e.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-used
		if n := open.Load(); n != 0 {
			t.Fatalf("%d links are open", n)
		}
	}
}

// A clock that was set back must not make points that end before they start.
func TestPointsStartBeforeTheyEnd(t *testing.T) {
	early := time.Unix(1795324398, 0)
	late := early.Add(time.Hour)
	rm := metricdata.ResourceMetrics{ScopeMetrics: []metricdata.ScopeMetrics{{Metrics: []metricdata.Metrics{
		{Data: metricdata.ExponentialHistogram[float64]{DataPoints: []metricdata.ExponentialHistogramDataPoint[float64]{
			{StartTime: early, Time: late}, {StartTime: late, Time: early}}}},
		{Data: metricdata.Sum[int64]{DataPoints: []metricdata.DataPoint[int64]{
			{StartTime: early, Time: late}, {StartTime: late, Time: early}}}},
	}}}}
	startBeforeEnd(&rm)
	metrics := rm.ScopeMetrics[0].Metrics
	histogram, sum := metrics[0].Data.(metricdata.ExponentialHistogram[float64]), metrics[1].Data.(metricdata.Sum[int64])
	for i, want := range []time.Time{early, early} {
		if got := histogram.DataPoints[i].StartTime; got != want {
			t.Errorf("histogram %d starts at %v, want %v", i, got, want)
		}
		if got := sum.DataPoints[i].StartTime; got != want {
			t.Errorf("sum %d starts at %v, want %v", i, got, want)
		}
	}
}
