package collector

import (
	"strings"
	"testing"

	"clntrace/collector/otlp"
	"clntrace/collector/otlp/otlptest"
	"clntrace/collector/stats"
)

// durations are those of the last request to r, by their attributes.
func durations(r *otlptest.Receiver) map[string]uint64 {
	counts := make(map[string]uint64)
	all := r.Metrics() // what comes is cumulative
	for _, rm := range all[len(all)-1].GetResourceMetrics() {
		for _, sm := range rm.GetScopeMetrics() {
			for _, metric := range sm.GetMetrics() {
				for _, p := range metric.GetExponentialHistogram().GetDataPoints() {
					var values []string
					for _, a := range p.GetAttributes() {
						values = append(values, a.GetValue().GetStringValue())
					}
					counts[strings.Join(values, ",")] = p.GetCount()
				}
			}
		}
	}
	return counts
}

// query is a span of a statement.
func query(id int) string {
	return strings.Replace(strings.Replace(extendTip(id), "extend_tip", "db_query_prepared", 1), `"tags":{}`, `"tags":{"query":"SELECT x FROM peers"}`, 1)
}

func TestMetricsCountEverySpanAndShowNothingRedacted(t *testing.T) {
	endpoint := otlptest.StartGRPC(t)
	url := endpoint.URL
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
	got := durations(endpoint)
	if len(got) != 2 || got["[redacted],node,db_query_prepared"] != 3 || got["node,extend_tip"] != 1 {
		t.Errorf("got %v", got)
	}
}

func TestMetricsFollowTheEndpoint(t *testing.T) {
	endpoint := otlptest.StartGRPC(t)
	url := endpoint.URL
	n := open(t, Options{})
	n.start(t, "off", func(c *Config) { c.Metrics, c.ServiceName = true, "node" })
	n.send(t, extendTip(1))
	cfg := n.cfg
	cfg.SampleRatio = 0
	var err error
	if cfg.Endpoint, err = otlp.ParseEndpoint(url); err != nil {
		t.Fatal(err)
	}
	if err := n.Reconfigure(cfg, nil); err != nil {
		t.Fatal(err)
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if got := durations(endpoint); len(got) != 1 || got["node,extend_tip"] != 1 {
		t.Errorf("got %v", got)
	}
}
