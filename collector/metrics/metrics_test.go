package metrics

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"clntrace/collector/otlp"
	"clntrace/collector/otlp/otlptest"
	"clntrace/collector/payments"
	"clntrace/collector/process"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

// config is one for r.
func config(t testing.TB, r *otlptest.Receiver) otlp.Config {
	t.Helper()
	cfg := otlp.Config{Protocol: otlp.ProtocolGRPC, Timeout: time.Minute}
	if r != nil {
		var err error
		if cfg.Endpoint, err = otlp.ParseEndpoint(r.URL); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

// last returns what r has taken last; nil: nothing.
func last(r *otlptest.Receiver) *colmetricspb.ExportMetricsServiceRequest {
	if all := r.Metrics(); len(all) > 0 {
		return all[len(all)-1]
	}
	return nil
}

// key returns the header x-key of the last request.
func key(r *otlptest.Receiver) string {
	all := r.Headers()
	return all[len(all)-1].Get("X-Key")
}

func start(t testing.TB, cfg otlp.Config, log io.Writer, change ...func(*Options)) *Metrics {
	t.Helper()
	o := Options{
		Send: true, Config: cfg, Version: "0.1.0", Logger: slog.New(slog.NewTextHandler(log, nil)), Voice: voice.Plugin,
		Resource: resource.NewSchemaless(attribute.String("service.name", "clntrace")),
		Counts: func() stats.Counts {
			return stats.Counts{Received: 10, Refused: 2, Malformed: 1, Accepted: 7, Exported: 3, SampledOut: 1, Pending: 2, Spooled: 1}
		},
		SpoolBytes: func() int64 { return 4096 },
	}
	for _, f := range change {
		f(&o)
	}
	m, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Shutdown(t.Context()) })
	return m
}

// flush sends what there is.
func (m *Metrics) flush(t *testing.T) {
	t.Helper()
	if err := m.sent.provider.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var lightningd, xpay = &process.Identity{Name: "lightningd", PID: 1}, &process.Identity{Name: "cln-xpay", PID: 2}

var observed = []stats.Observation{
	{Process: lightningd, Span: "db_exec_prepared", Detail: "UPDATE channels", Duration: 100 * time.Microsecond},
	{Process: lightningd, Span: "db_exec_prepared", Detail: "UPDATE channels", Duration: 300 * time.Microsecond},
	{Process: lightningd, Span: "lightningd/jsonrpc", Detail: "getroutes", Duration: 5 * time.Millisecond},
	{Process: xpay, Span: "jsonrpc", Detail: "getroutes", Duration: 2 * time.Second, Failed: true},
	{Process: xpay, Span: "jsonrpc", Detail: "getroutes", Duration: 4 * time.Millisecond},
	{Process: lightningd, Span: "extend_tip", Duration: -time.Second},
}

// attributes writes a list of them as one line.
func attributes(list []*commonpb.KeyValue) string {
	var parts []string
	for _, a := range list {
		parts = append(parts, a.GetKey()+"="+a.GetValue().GetStringValue())
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// points returns what a request holds, a line for each data point.
func points(in *colmetricspb.ExportMetricsServiceRequest) (list []string) {
	for _, rm := range in.GetResourceMetrics() {
		for _, sm := range rm.GetScopeMetrics() {
			for _, m := range sm.GetMetrics() {
				name := m.GetName() + " " + m.GetUnit() + " "
				for _, p := range m.GetExponentialHistogram().GetDataPoints() {
					list = append(list, fmt.Sprintf("%s%d %.6g %s", name, p.GetCount(), p.GetSum(), attributes(p.GetAttributes())))
				}
				for _, p := range m.GetSum().GetDataPoints() {
					list = append(list, strings.TrimSpace(fmt.Sprintf("%s%d %v %s", name, p.GetAsInt(), m.GetSum().GetIsMonotonic(), attributes(p.GetAttributes()))))
				}
				for _, temporality := range []metricspb.AggregationTemporality{m.GetExponentialHistogram().GetAggregationTemporality(), m.GetSum().GetAggregationTemporality()} {
					if temporality == metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA {
						list = append(list, name+"is not cumulative")
					}
				}
			}
		}
	}
	slices.Sort(list)
	return list
}

// Neither of these may change where metrics go or how.
func setEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT":                      "http://127.0.0.1:1",
		"OTEL_EXPORTER_OTLP_METRICS_HEADERS":                       "x-key=from-the-environment",
		"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE":        "delta",
		"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram",
		"OTEL_RESOURCE_ATTRIBUTES":                                 "stray=1",
		"OTEL_EXPORTER_OTLP_METRICS_INSECURE":                      "false",
		"OTEL_EXPORTER_OTLP_METRICS_COMPRESSION":                   "gzip",
		"OTEL_METRIC_EXPORT_INTERVAL":                              "1",
	} {
		t.Setenv(name, value)
	}
}

func TestWhatArrives(t *testing.T) {
	setEnvironment(t)
	for protocol, listen := range map[otlp.Protocol]func(testing.TB, ...otlptest.Answer) *otlptest.Receiver{
		otlp.ProtocolGRPC: otlptest.StartGRPC, otlp.ProtocolHTTP: otlptest.StartHTTP,
	} {
		t.Run(string(protocol), func(t *testing.T) {
			r := listen(t)
			cfg := config(t, r)
			cfg.Protocol = protocol
			m := start(t, cfg, io.Discard)
			m.SetResource(resource.NewSchemaless(attribute.String("cln.network", "regtest")))
			m.Observe(observed)
			m.Shutdown(t.Context())
			in := last(r)
			want := []string{
				"cln.span.duration s 1 0 service.name=lightningd span.name=extend_tip",
				"cln.span.duration s 1 0.004 rpc.method=getroutes service.name=cln-xpay span.name=jsonrpc",
				"cln.span.duration s 1 0.005 rpc.method=getroutes service.name=lightningd span.name=lightningd/jsonrpc",
				"cln.span.duration s 1 2 error.type=_OTHER rpc.method=getroutes service.name=cln-xpay span.name=jsonrpc",
				"cln.span.duration s 2 0.0004 db.query.summary=UPDATE channels service.name=lightningd span.name=db_exec_prepared",
				"clntrace.datagrams {datagram} 1 true outcome=malformed",
				"clntrace.datagrams {datagram} 2 true outcome=refused",
				"clntrace.datagrams {datagram} 7 true outcome=accepted",
				"clntrace.queue.size {span} 2 false",
				"clntrace.spans {span} 0 true outcome=dropped_queue_full",
				"clntrace.spans {span} 0 true outcome=dropped_spool_full",
				"clntrace.spans {span} 0 true outcome=filtered",
				"clntrace.spans {span} 0 true outcome=rejected_by_backend",
				"clntrace.spans {span} 1 true outcome=sampled_out",
				"clntrace.spans {span} 3 true outcome=exported",
				"clntrace.spool.bytes By 4096 false",
			}
			if got := points(in); !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if header := key(r); header != "" {
				t.Errorf("a header came from the environment: %s", header)
			}
			resource := attributes(in.GetResourceMetrics()[0].GetResource().GetAttributes())
			if resource != "cln.network=regtest" {
				t.Errorf("the resource is %s", resource)
			}
		})
	}
}

// What is sent names only spans that are sent, in the series in which they were counted.
func TestExemplarsThatArrive(t *testing.T) {
	r := otlptest.StartGRPC(t)
	m := start(t, config(t, r), io.Discard)
	m.Observe(observed)
	m.ObservePayments([]payments.Observation{{Kind: payments.KindPayment, Outcome: "success", Duration: 2 * time.Second}})
	now := time.Now()
	for i, s := range []Example{
		{Observation: observed[0], Exported: true},
		{Observation: observed[2]},
		{Observation: observed[3], Exported: true},
		{Observation: stats.Observation{Duration: 2 * time.Second}, Payment: payments.KindPayment, Outcome: "success", Exported: true},
		{Observation: stats.Observation{Duration: 2 * time.Second, Failed: true}, Payment: payments.KindPayment, Outcome: "none of that", Exported: true},
	} {
		s.TraceID, s.SpanID = trace.TraceID{15: byte(i + 1)}, trace.SpanID{7: byte(i + 1)}
		m.Exemplify(&s, now)
	}
	m.flush(t)
	var got []string
	for _, metric := range last(r).GetResourceMetrics()[0].GetScopeMetrics()[0].GetMetrics() {
		for _, p := range metric.GetExponentialHistogram().GetDataPoints() {
			for _, e := range p.GetExemplars() {
				got = append(got, fmt.Sprintf("%s %v of %.6g in trace %d, span %d", metric.GetName(), e.GetAsDouble(), p.GetSum(), e.GetTraceId()[15], e.GetSpanId()[7]))
				if e.GetTimeUnixNano() != uint64(now.UnixNano()) || len(e.GetFilteredAttributes()) != 0 {
					t.Errorf("got %v", e)
				}
			}
		}
	}
	slices.Sort(got)
	want := []string{
		"cln.payment.duration 2 of 2 in trace 4, span 4",
		"cln.span.duration 0.0001 of 0.0004 in trace 1, span 1",
		"cln.span.duration 2 of 2 in trace 3, span 3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestOneServiceNameForAll(t *testing.T) {
	r := otlptest.StartGRPC(t)
	m := start(t, config(t, r), io.Discard, func(o *Options) { o.ServiceName = "my-node" })
	m.Observe(observed[2:3])
	m.flush(t)
	if got := points(last(r))[0]; !strings.Contains(got, "service.name=my-node") {
		t.Errorf("got %s", got)
	}
}

func TestEndpointAndHeadersChange(t *testing.T) {
	first, second := otlptest.StartGRPC(t), otlptest.StartHTTP(t)
	cfg := config(t, first)
	cfg.Headers = map[string]string{"x-key": "one"}
	m := start(t, cfg, io.Discard)
	m.Observe(observed)
	m.flush(t)
	if last(first) == nil || key(first) != "one" {
		t.Fatalf("the first endpoint got %v with the header %q", last(first), key(first))
	}

	off := config(t, nil)
	if err := m.Use(off); err != nil {
		t.Fatal(err)
	}
	m.flush(t)

	cfg = config(t, second)
	cfg.Protocol, cfg.Headers = otlp.ProtocolHTTP, map[string]string{"x-key": "two"}
	if err := m.Use(cfg); err != nil {
		t.Fatal(err)
	}
	m.Observe(observed)
	m.flush(t)
	in, header := last(second), key(second)
	if header != "two" || !slices.ContainsFunc(points(in), func(p string) bool { return strings.HasPrefix(p, "cln.span.duration s 4 0.0008 ") }) {
		t.Errorf("the second endpoint got, with the header %q,\n%s", header, strings.Join(points(in), "\n"))
	}
	if len(first.Metrics()) != 1 {
		t.Errorf("the first endpoint got %d requests", len(first.Metrics()))
	}

	bad := cfg
	bad.CAFile = "/nonexistent/ca.pem"
	if err := m.Use(bad); err == nil || !strings.Contains(err.Error(), bad.CAFile) {
		t.Errorf("got %v", err)
	}
	m.flush(t)
	if len(second.Metrics()) != 2 {
		t.Errorf("after a refused change the second endpoint has %d requests", len(second.Metrics()))
	}
}

func TestFailuresAreLoggedOnce(t *testing.T) {
	r := otlptest.StartGRPC(t)
	var log bytes.Buffer
	m := start(t, config(t, r), &log)
	m.Observe(observed)
	r.Answer(otlptest.Answer{Err: status.Error(codes.Unimplemented, "unknown service")})
	for range 3 {
		m.flush(t)
	}
	since, reason := m.Outage()
	if since.IsZero() || !strings.Contains(reason, "give it a metrics pipeline. The error: Unimplemented: unknown service") {
		t.Errorf("the outage is %v, %q", since, reason)
	}
	r.Answer(otlptest.Answer{})
	for range 3 {
		m.flush(t)
	}
	if since, reason := m.Outage(); !since.IsZero() || reason != "" {
		t.Errorf("after it, the outage is %v, %q", since, reason)
	}
	if lines := strings.Split(strings.TrimSpace(log.String()), "\n"); len(lines) != 2 ||
		!strings.Contains(lines[0], "does not take metrics: it speaks gRPC and takes no metrics") || !strings.Contains(lines[0], "tracestats tells more") || !strings.Contains(lines[1], "takes metrics again") {
		t.Errorf("the log is\n%s", log.String())
	}
	if in := last(r); len(points(in)) != 16 {
		t.Errorf("after the outage there are\n%s", strings.Join(points(in), "\n"))
	}
}

// Whatever arrives on the socket, series are bounded, requests are of a size
// that an endpoint takes, and no span is missing.
func TestHostileOperations(t *testing.T) {
	r := otlptest.StartGRPC(t) // takes 4 MiB, as every gRPC server
	m := start(t, config(t, r), io.Discard)
	long, random := strings.Repeat("日", 600), rand.New(rand.NewPCG(1, 2))
	want := 0
	for i := range maxSeries + 500 {
		var spans []stats.Observation
		for range 100 {
			d := time.Duration(math.Exp(random.Float64()*math.Log(3.6e9))) * time.Microsecond
			spans = append(spans, stats.Observation{Process: lightningd, Span: fmt.Sprint(i) + long, Detail: fmt.Sprint(i) + long, Duration: d, Failed: i%3 == 0})
		}
		m.Observe(spans)
		want += len(spans)
	}
	m.flush(t)
	if _, reason := m.Outage(); reason != "" {
		t.Error(reason)
	}
	got, other, series := 0, 0, 0
	for _, in := range r.Metrics() {
		for _, p := range points(in) {
			name, rest, _ := strings.Cut(p, " s ")
			if name != durationName {
				continue
			}
			var count int
			fmt.Sscan(rest, &count)
			series, got = series+1, got+count
			if strings.HasSuffix(p, "span.name=(other)") {
				other += count
			}
			if strings.Contains(p, "overflow") {
				t.Error("the SDK had to cut the series")
			}
		}
	}
	if got != want || other != 500*100 || series != maxSeries+2 {
		t.Errorf("%d spans in %d series, %d of them under (other); want %d, %d, %d", got, series, other, want, maxSeries+2, 500*100)
	}
}

func TestSeriesKeepNothingOfLongNames(t *testing.T) {
	m := start(t, config(t, nil), io.Discard)
	long := strings.Repeat("x", 100_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 500 {
		name := fmt.Sprint(i, long)
		m.Observe([]stats.Observation{{Process: lightningd, Span: name, Detail: name}})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	const most = 10 << 20 // the histograms themselves; the names have 50 MB
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > most {
		t.Errorf("the heap has grown by %d bytes, want at most %d", grown, most)
	}
	runtime.KeepAlive(m)
}

// BenchmarkObserve is what metrics cost for each span.
func BenchmarkObserve(b *testing.B) {
	none := func(*Options) {}
	for _, tt := range []struct {
		name      string
		change    func(*Options)
		exemplify bool
	}{
		{"sent", none, false},
		{"sent with exemplars", none, true},
		{"scraped with exemplars", func(o *Options) { o.Send, o.Listen = false, "127.0.0.1:"+freePort(b) }, true},
		{"both with exemplars", func(o *Options) { o.Listen = "127.0.0.1:" + freePort(b) }, true},
	} {
		b.Run(tt.name, func(b *testing.B) {
			m := start(b, config(b, nil), io.Discard, tt.change)
			random := rand.New(rand.NewPCG(1, 2))
			var spans []stats.Observation
			for i := range 4096 {
				spans = append(spans, stats.Observation{
					Process: lightningd, Span: "db_exec_prepared", Detail: fmt.Sprint("UPDATE channels", i%450),
					Duration: time.Duration(200*math.Exp(random.NormFloat64())) * time.Microsecond,
				})
			}
			m.Observe(spans)
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				m.Observe(spans)
				for i := range spans {
					if !tt.exemplify {
						break
					}
					e := Example{Observation: spans[i], TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, Exported: true}
					m.Exemplify(&e, now)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(spans)), "ns/span")
		})
	}
}
