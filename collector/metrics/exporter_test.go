package metrics

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"clntrace/collector/otlp"
	"clntrace/collector/otlp/otlptest"
	"clntrace/collector/voice"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// What an endpoint rejects of a request is told as what it rejects altogether is.
func TestPartialSuccessIsTold(t *testing.T) {
	var log bytes.Buffer
	m := start(t, config(t, otlptest.StartGRPC(t, otlptest.Answer{Rejected: 3, Message: "too old"})), &log)
	m.Observe(observed)
	m.flush(t)
	if _, reason := m.Outage(); !strings.Contains(reason, "too old") {
		t.Errorf("the reason is %q", reason)
	}
}

// A load balancer forgets the connection and closes nothing: the request that meets it
// first arrives all the same, over a new connection, and nobody has to read of it.
func TestForgottenConnection(t *testing.T) {
	for protocol, listen := range map[otlp.Protocol]func(testing.TB, ...otlptest.Answer) *otlptest.Receiver{
		otlp.ProtocolGRPC: otlptest.StartGRPC, otlp.ProtocolHTTP: otlptest.StartHTTP,
	} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			r := listen(t)
			between := otlptest.NewRelay(t, strings.TrimPrefix(r.URL, "http://"))
			cfg := config(t, &otlptest.Receiver{URL: "http://" + between.Addr().String()})
			cfg.Protocol, cfg.Timeout = protocol, 2*time.Second
			var log bytes.Buffer
			m := start(t, cfg, &log)
			for n := 1; n <= 3; n++ {
				m.flush(t)
				if got := len(r.Metrics()); got != n {
					t.Fatalf("%d requests have arrived, want %d: %s", got, n, log.String())
				}
				between.Forget()
			}
			if log.Len() > 0 {
				t.Error(log.String())
			}
		})
	}
}

// Failures are told with their remedy, in the words of whoever runs clntrace.
func TestDeadEndpointIsExplained(t *testing.T) {
	l := otlptest.Listen(t)
	l.Close()
	cfg := config(t, &otlptest.Receiver{URL: "http://" + l.Addr().String()})
	for _, v := range []voice.Voice{voice.Plugin, voice.Collect} {
		var log bytes.Buffer
		m := start(t, cfg, &log, func(o *Options) { o.Voice = v })
		m.flush(t)
		_, reason := m.Outage()
		for _, said := range []string{reason, log.String()} {
			if !strings.Contains(said, "nothing is listening there. Start the backend or correct "+v.Option("otlp-endpoint")) {
				t.Errorf("got %s", said)
			}
		}
		if tells := strings.Contains(log.String(), v.Statistics+" tells more"); !tells {
			t.Errorf("the log says %s", log.String())
		}
	}
}

// A CA for all exporters must not keep metrics from an http:// endpoint.
func TestCertificatesOfTheEnvironmentAreNotUsed(t *testing.T) {
	file := otlptest.NewAuthority(t).File
	setEnvironment(t)
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", file)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "1")
	overGRPC, overHTTP := otlptest.StartGRPC(t), otlptest.StartHTTP(t)
	for protocol, r := range map[otlp.Protocol]*otlptest.Receiver{otlp.ProtocolGRPC: overGRPC, otlp.ProtocolHTTP: overHTTP} {
		cfg := config(t, r)
		cfg.Protocol = protocol
		m := start(t, cfg, io.Discard)
		m.Observe(observed)
		m.flush(t)
		if last(r) == nil {
			t.Errorf("%s: nothing arrived", protocol)
		}
	}
}

// A request under way, to whichever endpoint, must not hold up the shutdown.
func TestShutdownEndsWithItsContext(t *testing.T) {
	for what, replace := range map[string]bool{"endpoint in use": false, "endpoint that was replaced": true} {
		t.Run(what, func(t *testing.T) {
			answer, exported := make(chan struct{}), make(chan struct{})
			r := otlptest.StartHTTP(t, otlptest.Answer{Until: answer})
			cfg := config(t, r)
			cfg.Protocol, cfg.Timeout = otlp.ProtocolHTTP, time.Hour // the request ends when it is answered, not before
			c, err := connect(cfg)
			if err != nil {
				t.Fatal(err)
			}
			e := &exporter{log: slog.New(slog.DiscardHandler), resource: resource.Empty()}
			e.use(c, cfg)
			go func() {
				_ = e.Export(context.Background(), new(metricdata.ResourceMetrics))
				close(exported)
			}()
			<-r.Arrived
			if replace {
				e.use(nil, otlp.Config{})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			// The request is answered only after Shutdown has returned.
			if err := e.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			close(answer)
			<-exported
			if err := e.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
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
