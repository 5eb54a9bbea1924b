package tests

import (
	"encoding/json"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
)

// metrics calls f with each metric that has arrived.
func metrics(r *otlptest.Receiver, f func(pcommon.Resource, pmetric.Metric)) {
	for _, md := range r.Metrics() {
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					f(rm.Resource(), m)
				}
			}
		}
	}
}

// attributes returns those of each data point of m.
func attributes(m pmetric.Metric) (list []pcommon.Map) {
	switch m.Type() {
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			list = append(list, p.Attributes())
		}
	case pmetric.MetricTypeSum:
		for _, p := range m.Sum().DataPoints().All() {
			list = append(list, p.Attributes())
		}
	}
	return list
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, map[string]string{"clntrace-metrics": "", "clntrace-sample-ratio": "0"})
	n.Senders(sender).Replay(load(t, recording.Xpay))
	settled(t, n, 156)
	endCleanly(t, n) // the last figures go out at the end
	names := map[string]string{}
	counted, sampledOut := uint64(0), int64(0)
	metrics(r, func(_ pcommon.Resource, m pmetric.Metric) {
		names[m.Name()] = m.Unit()
		switch m.Name() {
		case "cln.span.duration":
			for _, p := range m.ExponentialHistogram().DataPoints().All() {
				if name, _ := p.Attributes().Get("span.name"); name.Str() != "request" { // as a whole
					counted += p.Count()
				}
			}
		case "clntrace.spans":
			for _, p := range m.Sum().DataPoints().All() {
				if outcome, _ := p.Attributes().Get("outcome"); outcome.Str() == "sampled_out" {
					sampledOut += p.IntValue()
				}
			}
		}
	})
	want := map[string]string{
		"cln.span.duration": "s", "cln.request.wait": "s", "clntrace.datagrams": "{datagram}", "clntrace.spans": "{span}",
		"clntrace.queue.size": "{span}", "clntrace.spool.bytes": "By",
	}
	if !maps.Equal(names, want) {
		t.Errorf("the metrics and their units are %v, want %v", names, want)
	}
	if counted != 156 {
		t.Errorf("durations of %d spans, want 156", counted)
	}
	if sampledOut < 156 { // and what clntrace adds to the payment
		t.Errorf("%d spans sampled out, want 156 at least", sampledOut)
	}
}

// Without the option there are none.
func TestNoMetrics(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, nil)
	n.Senders(sender).Replay(load(t, recording.Xpay))
	settled(t, n, 156)
	endCleanly(t, n)
	if got := r.Metrics(); len(got) != 0 {
		t.Errorf("%d requests with metrics arrived", len(got))
	}
}

// prometheus returns the names under which Prometheus has the metrics that
// arrived, and those of their labels.
func prometheus(t *testing.T, r *otlptest.Receiver) (names, labels map[string]bool) {
	t.Helper()
	namer, labeler := otlptranslator.MetricNamer{WithMetricSuffixes: true}, otlptranslator.LabelNamer{}
	names, labels = map[string]bool{}, map[string]bool{}
	metrics(r, func(resource pcommon.Resource, m pmetric.Metric) {
		var kind otlptranslator.MetricType = otlptranslator.MetricTypeExponentialHistogram
		if m.Type() == pmetric.MetricTypeSum {
			kind = otlptranslator.MetricTypeNonMonotonicCounter
			if m.Sum().IsMonotonic() {
				kind = otlptranslator.MetricTypeMonotonicCounter
			}
		}
		name, err := namer.Build(otlptranslator.Metric{Name: m.Name(), Unit: m.Unit(), Type: kind})
		if err != nil {
			t.Fatal(err)
		}
		names[name] = true
		for _, list := range attributes(m) {
			for key := range list.All() {
				label, err := labeler.Build(key)
				if err != nil {
					t.Fatal(err)
				}
				labels[label] = true
			}
		}
		// Of the resource, Prometheus makes these two.
		for key, label := range map[string]string{"service.name": "job", "service.instance.id": "instance"} {
			if _, ok := resource.Attributes().Get(key); ok {
				labels[label] = true
			}
		}
	})
	return names, labels
}

// panel is one of a Grafana dashboard.
type panel struct {
	Title   string
	Targets []struct {
		Expr, Interval string
		Exemplar       bool
	}
}

// readDashboard returns the panels of a dashboard, and the queries of its variables.
func readDashboard(t *testing.T, dashboard string) (panels []panel, variables []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", dashboard))
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Panels     []panel
		Templating struct {
			List []struct{ Type, Definition string }
		}
	}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	for _, v := range read.Templating.List {
		if v.Type == "query" {
			variables = append(variables, v.Definition)
		}
	}
	return read.Panels, variables
}

// dashboardQueries returns the queries of a dashboard.
func dashboardQueries(t *testing.T, dashboard string) (queries []string) {
	t.Helper()
	panels, queries := readDashboard(t, dashboard)
	for _, p := range panels {
		for _, target := range p.Targets {
			if target.Expr == "" {
				t.Errorf("%s has an empty query", p.Title)
			}
			queries = append(queries, target.Expr)
		}
	}
	return queries
}

var (
	// quoted is what holds no names: texts, ranges and Grafana's variables.
	quoted     = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]|\$\w+`)
	identifier = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	// language is what the dashboard uses of PromQL and Grafana.
	language = strings.Fields("sum by rate topk histogram_quantile histogram_sum histogram_count label_values")
)

// live lets happen on a node whatever has metrics.
func live(t *testing.T, n *lightningdtest.Node) {
	t.Helper()
	n.Senders(sender).Replay(load(t, recording.Xpay))
	send(t, n.Senders(sender).Start("pay"), recording.New(recording.Span{
		TraceID: "00000000000000c100000000000000c1", ID: "00000000000000c1", Name: "jsonrpc",
		Start: now(), Duration: time.Millisecond, Tags: map[string]string{"id": "cln:pay#1", "error": "true"},
	}))
	send(t, n.Senders(sender).Start("lightningd"), recording.New(recording.Span{
		TraceID: "00000000000000c200000000000000c2", ID: "00000000000000c2", Name: "plugin/bitcoind",
		Start: now(), Duration: time.Millisecond, Tags: map[string]string{"method": "getchaininfo"},
	}))
	pair(t, n)
	act(t, n)
	waitStats(t, n, "the payment and the forward to end", func(r report) bool {
		return r.Datagrams.Accepted >= 158 && r.Spans.Pending == 0 && operation(r, "payment") && operation(r, "forward") && operation(r, "request")
	})
}

// pair sends the request of a plugin, and lightningd's work on it. That comes from the
// parent of the plugins, as in a node: from this process.
func pair(t *testing.T, n *lightningdtest.Node) {
	t.Helper()
	began := now()
	node, err := net.Dial("unixgram", n.TraceSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if _, err := node.Write(recording.New(recording.Span{
		TraceID: "00000000000000d100000000000000d1", ID: "00000000000000d1", Name: "lightningd/jsonrpc",
		Start: began.Add(20 * time.Millisecond), Duration: 10 * time.Millisecond, Tags: map[string]string{"method": "listpeers"},
	})); err != nil {
		t.Fatal(err)
	}
	send(t, n.Senders(sender).Start("cln-askrene"), recording.New(recording.Span{
		TraceID: "00000000000000d200000000000000d2", ID: "00000000000000d2", Name: "jsonrpc",
		Start: began, Duration: 35 * time.Millisecond, Tags: map[string]string{"id": "cli:getroutes#7/cln:getroutes#9/cln-askrene:listpeers#12", "error": "false"},
	}))
	waitStats(t, n, "the request to be paired", func(r report) bool {
		return slices.ContainsFunc(r.Operations, func(o operationRow) bool { return o.Paired > 0 })
	})
}

func TestDashboardAsksForWhatArrives(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, map[string]string{"clntrace-metrics": "", "clntrace-payments": "outcomes", "clntrace-group-requests": "true"})
	live(t, n)
	endCleanly(t, n)
	names, labels := prometheus(t, r)
	checkDashboard(t, "grafana-dashboard.json", names, labels)
}

// Wherever a panel shows percentiles, a click leads to a trace: exemplars are shown, and
// not twice. OTLP metrics come every 30 s, and rates need two values.
func TestDashboardsShowExemplars(t *testing.T) {
	t.Parallel()
	for dashboard, interval := range map[string]string{"grafana-dashboard.json": "30s", "grafana-dashboard-scraped.json": ""} {
		panels, _ := readDashboard(t, dashboard)
		for _, p := range panels {
			want, got := 0, 0
			for _, target := range p.Targets {
				if strings.Contains(target.Expr, "histogram_quantile") {
					want = 1
				}
				if target.Exemplar {
					got++
				}
				if strings.Contains(target.Expr, "$__rate_interval") && target.Interval != interval {
					t.Errorf("%s: %s: the interval is %q", dashboard, p.Title, target.Interval)
				}
			}
			if got != want {
				t.Errorf("%s: %s: %d queries show exemplars, want %d", dashboard, p.Title, got, want)
			}
		}
	}
}

// checkDashboard makes sure that a dashboard asks for all that there is, and for nothing
// else.
func checkDashboard(t *testing.T, dashboard string, names, labels map[string]bool) {
	t.Helper()
	asked := map[string]bool{}
	for _, query := range dashboardQueries(t, dashboard) {
		for _, name := range identifier.FindAllString(quoted.ReplaceAllString(query, " "), -1) {
			switch {
			case names[name]:
				asked[name] = true
			case !labels[name] && !slices.Contains(language, name):
				t.Errorf("%s: nothing of the name %s arrives", query, name)
			}
		}
	}
	for name := range names {
		// Of a histogram with buckets, nobody needs all three.
		family := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
		if !asked[name] && !asked[family+"_bucket"] {
			t.Errorf("%s shows no %s", dashboard, name)
		}
	}
}
