package tests

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

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
				counted += p.Count()
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
		"cln.span.duration": "s", "clntrace.datagrams": "{datagram}", "clntrace.spans": "{span}",
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

// dashboardQueries returns the queries of the Grafana dashboard.
func dashboardQueries(t *testing.T) (queries []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Type, Definition string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			if target.Expr == "" {
				t.Errorf("%s has an empty query", p.Title)
			}
			queries = append(queries, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Type == "query" {
			queries = append(queries, v.Definition)
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

func TestDashboardAsksForWhatArrives(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, map[string]string{"clntrace-metrics": ""})
	n.Senders(sender).Replay(load(t, recording.Xpay))
	send(t, n.Senders(sender).Start("pay"), recording.New(recording.Span{
		TraceID: "00000000000000c100000000000000c1", ID: "00000000000000c1", Name: "jsonrpc",
		Start: now(), Duration: time.Millisecond, Tags: map[string]string{"id": "cln:pay#1", "error": "true"},
	}))
	settled(t, n, 157)
	endCleanly(t, n)
	names, labels := prometheus(t, r)
	asked := map[string]bool{}
	for _, query := range dashboardQueries(t) {
		for _, name := range identifier.FindAllString(quoted.ReplaceAllString(query, " "), -1) {
			switch {
			case names[name]:
				asked[name] = true
			case !labels[name] && !slices.Contains(language, name):
				t.Errorf("%s: nothing of the name %s arrives", query, name)
			}
		}
	}
	if !maps.Equal(asked, names) {
		t.Errorf("the dashboard shows %v, there are %v", asked, names)
	}
}
