package collector

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"

	"clntrace/collector/export"
	"clntrace/collector/stats"
)

// metricsOnly is an endpoint that counts the durations it gets, by their
// attributes.
type metricsOnly struct {
	colmetricspb.UnimplementedMetricsServiceServer
	mu        sync.Mutex
	durations map[string]uint64
}

func (m *metricsOnly) Export(_ context.Context, in *colmetricspb.ExportMetricsServiceRequest) (*colmetricspb.ExportMetricsServiceResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.durations = make(map[string]uint64) // what comes is cumulative
	for _, rm := range in.GetResourceMetrics() {
		for _, sm := range rm.GetScopeMetrics() {
			for _, metric := range sm.GetMetrics() {
				for _, p := range metric.GetExponentialHistogram().GetDataPoints() {
					var values []string
					for _, a := range p.GetAttributes() {
						values = append(values, a.GetValue().GetStringValue())
					}
					m.durations[strings.Join(values, ",")] = p.GetCount()
				}
			}
		}
	}
	return &colmetricspb.ExportMetricsServiceResponse{}, nil
}

// listen starts an endpoint and returns its URL.
func (m *metricsOnly) listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	colmetricspb.RegisterMetricsServiceServer(server, m)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return "http://" + l.Addr().String()
}

// query is a span of a statement.
func query(id int) string {
	return strings.Replace(strings.Replace(extendTip(id), "extend_tip", "db_query_prepared", 1), `"tags":{}`, `"tags":{"query":"SELECT x FROM peers"}`, 1)
}

func TestMetricsCountEverySpanAndShowNothingRedacted(t *testing.T) {
	endpoint := new(metricsOnly)
	url := endpoint.listen(t)
	n := open(t, Options{})
	n.send(t, query(1), query(2)) // before it is known what may be shown
	n.start(t, url, func(c *Config) {
		c.Metrics, c.SampleRatio, c.DropSpans, c.RedactTags, c.ServiceName = true, 0, []string{"extend_*"}, []string{"query"}, "node"
	})
	n.send(t, query(3), extendTip(4))
	n.wait(t, "the spans to be done with", func(r stats.Report) bool { return r.Spans.SampledOut == 3 && r.Spans.Filtered == 1 })
	if err := n.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	got := endpoint.durations
	if len(got) != 2 || got["[redacted],node,db_query_prepared"] != 3 || got["node,extend_tip"] != 1 {
		t.Errorf("got %v", got)
	}
}

func TestMetricsFollowTheEndpoint(t *testing.T) {
	endpoint := new(metricsOnly)
	url := endpoint.listen(t)
	n := open(t, Options{})
	n.start(t, "off", func(c *Config) { c.Metrics, c.ServiceName = true, "node" })
	n.send(t, extendTip(1))
	cfg := n.cfg
	cfg.SampleRatio = 0
	var err error
	if cfg.Endpoint, err = export.ParseEndpoint(url); err != nil {
		t.Fatal(err)
	}
	if err := n.Reconfigure(cfg, nil); err != nil {
		t.Fatal(err)
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if got := endpoint.durations; len(got) != 1 || got["node,extend_tip"] != 1 {
		t.Errorf("got %v", got)
	}
}
