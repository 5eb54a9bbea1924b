package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// launchScraped is launchWith for a node that may also be scraped, at the address.
func launchScraped(t *testing.T, set map[string]string) (n *lightningdtest.Node, r *otlptest.Receiver, address string) {
	t.Helper()
	address = strings.TrimPrefix(otlptest.Reserve(t).GRPCEndpoint(), "http://")
	options := map[string]string{"clntrace-prometheus-listen": address}
	maps.Copy(options, set)
	n, r = launchWith(t, options)
	return n, r, address
}

// scrapeAs scrapes as a Prometheus that asks for the content type.
func scrapeAs(t *testing.T, address, accept string) []byte {
	t.Helper()
	r, _ := http.NewRequest(http.MethodGet, "http://"+address+"/metrics", nil)
	r.Header.Set("Accept", accept)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", answer.Status, err)
	}
	return body
}

const acceptOpenMetrics = "application/openmetrics-text;version=1.0.0"

// scrapes are what all kinds of scrapers get.
func scrapes(t *testing.T, address string) (all []byte) {
	t.Helper()
	for _, accept := range []string{"text/plain", acceptOpenMetrics, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"} {
		all = append(all, scrapeAs(t, address, accept)...)
	}
	return all
}

var (
	scrapedSeries = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*?)\})? \S+`)
	scrapedLabel  = regexp.MustCompile(`([a-z_]+)="`)
	traceOf       = regexp.MustCompile(`# \{.*trace_id="([0-9a-f]{32})"`)
)

// The plugin is scraped without OTLP metrics, and names a trace for its figures.
func TestPrometheusScrapes(t *testing.T) {
	t.Parallel()
	n, r, address := launchScraped(t, map[string]string{"clntrace-payments": "outcomes", "clntrace-group-requests": "true"})
	if body := scrapeAs(t, address, ""); !bytes.Contains(body, []byte(`clntrace_datagrams_total{outcome="accepted"} 0`)) {
		t.Errorf("right after init there is\n%s", body)
	}
	live(t, n)
	body := scrapeAs(t, address, acceptOpenMetrics)
	names, labels, series := map[string]bool{}, map[string]bool{"le": true, "job": true, "instance": true}, 0
	for _, s := range scrapedSeries.FindAllStringSubmatch(string(body), -1) {
		series++
		names[s[1]] = true
		for _, label := range scrapedLabel.FindAllStringSubmatch(s[2], -1) {
			labels[label[1]] = true
		}
	}
	checkDashboard(t, "grafana-dashboard-scraped.json", names, labels)
	for _, want := range []string{"cln_span_duration_seconds_bucket", "cln_request_wait_seconds_bucket", "cln_payment_duration_seconds_bucket", "cln_forward_duration_seconds_bucket", "cln_payment_open", "cln_forward_open"} {
		if !names[want] {
			t.Errorf("there is no %s", want)
		}
	}
	if series > 2000 || bytes.Contains(body, []byte("UPDATE")) {
		t.Errorf("%d series", series)
	}
	endCleanly(t, n)
	if len(r.Metrics()) > 0 {
		t.Error("OTLP metrics arrived, too")
	}
	arrived := map[string]bool{}
	for _, s := range r.Spans() {
		arrived[s.TraceID] = true
	}
	exemplars := traceOf.FindAllSubmatch(body, -1)
	for _, e := range exemplars {
		if !arrived[string(e[1])] {
			t.Errorf("the exemplar %s leads to no trace", e[1])
		}
	}
	if len(exemplars) < 10 {
		t.Errorf("%d exemplars", len(exemplars))
	}
}

// Payments that are for the node alone are in no scrape: a scrape leaves the node.
func TestPrometheusGetsNoLocalPayments(t *testing.T) {
	t.Parallel()
	n, _, address := launchScraped(t, map[string]string{"clntrace-payments": "local", "clntrace-group-requests": "true"})
	live(t, n)
	if body := scrapes(t, address); bytes.Contains(body, []byte("cln_payment")) || bytes.Contains(body, []byte("cln_forward")) {
		t.Errorf("there is\n%s", body)
	}
	endCleanly(t, n)
}

// With nothing exported, exemplars lead to the traces that listtraces shows.
func TestExemplarsOfRecordedTraces(t *testing.T) {
	t.Parallel()
	n, _, address := launchScraped(t, map[string]string{"clntrace-otlp-endpoint": "off", "clntrace-group-requests": "true"})
	n.Senders(sender).Replay(load(t, recording.Xpay))
	waitStats(t, n, "the request", func(r report) bool { return operation(r, "request") })
	exemplars := traceOf.FindAllSubmatch(scrapeAs(t, address, acceptOpenMetrics), -1)
	if len(exemplars) == 0 {
		t.Error("there are no exemplars")
	}
	for _, e := range exemplars {
		if text, err := n.Call("listtraces", object{"id": string(e[1])}); err != nil || !bytes.Contains(text, e[1]) {
			t.Errorf("listtraces id=%s: %v %s", e[1], err, text)
		}
	}
	endCleanly(t, n)
}

// The node starts although nobody can scrape, and tracestats says so.
func TestPrometheusAddressInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, r := launchWith(t, map[string]string{"clntrace-prometheus-listen": l.Addr().String()})
	n.Senders(sender).Replay(load(t, recording.Xpay))
	settled(t, n, 156)
	if got := stats(t, n); got.Status != "ok" || !strings.Contains(fmt.Sprint(got.Warnings), "address already in use. This is tried again every 10 s; if it stays so, correct clntrace-prometheus-listen in lightningd's configuration") {
		t.Errorf("%s, %v", got.Status, got.Warnings)
	}
	r.Wait(t, "the spans", func(s []otlptest.Span) bool { return len(s) >= 156 })
	endCleanly(t, n)
}

// collect is scraped, too.
func TestPrometheusScrapesCollect(t *testing.T) {
	t.Parallel()
	address := strings.TrimPrefix(otlptest.Reserve(t).GRPCEndpoint(), "http://")
	socket := filepath.Join(lightningdtest.Dir(t), "trace.sock")
	process, ended := startCollect(t, socket, io.Discard, "--otlp-endpoint=off", "--prometheus-listen="+address)
	wait.For(t, "collect to listen", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if body := scrapeAs(t, address, ""); !bytes.Contains(body, []byte("clntrace_queue_size 0")) || bytes.Contains(body, []byte("cln_payment_open")) {
		t.Errorf("there is\n%s", body)
	}
	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// startPrometheus starts the Prometheus that PROMETHEUS names at an address, with the
// configuration of deploy/prometheus and the node's address in it.
func startPrometheus(t *testing.T, address, node string, flags ...string) {
	t.Helper()
	program := os.Getenv("PROMETHEUS")
	if program == "" {
		t.Skip("skipped what a real Prometheus makes of the metrics: name one (3.8 or later) in PROMETHEUS to run this test")
	}
	config, err := os.ReadFile("deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := lightningdtest.Dir(t)
	config = bytes.ReplaceAll(bytes.ReplaceAll(config, []byte("localhost:9464"), []byte(node)), []byte("15s"), []byte("1s"))
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, append(flags, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--enable-feature=exemplar-storage")...)
	var log lightningdtest.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
}

// ask asks Prometheus, and returns what is under data in its answer. It reports false
// while it is not up. A question that Prometheus does not understand ends the test.
func ask(t *testing.T, address, path string, parameters url.Values, data any) bool {
	t.Helper()
	answer, err := http.Get("http://" + address + path + "?" + parameters.Encode())
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	read := struct {
		Error string
		Data  any
	}{Data: data}
	err = json.NewDecoder(answer.Body).Decode(&read)
	if read.Error != "" {
		t.Fatalf("%v: %s", parameters, read.Error)
	}
	return err == nil
}

// hasFigure reports whether Prometheus answers a query with any figure.
func hasFigure(t *testing.T, address, query string) bool {
	t.Helper()
	var vector struct {
		Result []struct{ Value, Histogram []any }
	}
	return ask(t, address, "/api/v1/query", url.Values{"query": {query}}, &vector) &&
		slices.ContainsFunc(vector.Result, func(r struct{ Value, Histogram []any }) bool {
			return len(r.Histogram) > 0 || len(r.Value) == 2 && r.Value[1] != "NaN"
		})
}

// inGrafana fills in Grafana's variables.
var inGrafana = strings.NewReplacer("$__rate_interval", "2m", "$job", ".*", "$instance", ".*")

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// checkShown asks Prometheus for everything on a dashboard: each query has to have a
// figure, and exemplars where they are shown, all of which lead to a trace that r has.
func checkShown(t *testing.T, address, dashboard string, r *otlptest.Receiver) {
	t.Helper()
	panels, variables := readDashboard(t, dashboard)
	for _, v := range variables {
		var values []string
		m := labelValues.FindStringSubmatch(inGrafana.Replace(v))
		if m == nil || !ask(t, address, "/api/v1/label/"+m[2]+"/values", url.Values{"match[]": {m[1]}}, &values) || len(values) == 0 {
			t.Errorf("no values for %s", v)
		}
	}
	arrived := map[string]bool{}
	for _, s := range r.Spans() {
		arrived[s.TraceID] = true
	}
	queries, exemplars := 0, 0
	for _, p := range panels {
		for _, target := range p.Targets {
			queries++
			q := inGrafana.Replace(target.Expr)
			if !hasFigure(t, address, q) {
				t.Errorf("%s: nothing for %s", p.Title, q)
			}
			if target.Exemplar {
				traces := exemplarsOf(t, address, q)
				if len(traces) == 0 {
					t.Errorf("%s: no exemplars for %s", p.Title, q)
				}
				exemplars += len(traces)
				for _, id := range traces {
					if !arrived[id] {
						t.Errorf("%s: the exemplar %s leads to no trace", p.Title, id)
					}
				}
			}
		}
	}
	t.Logf("%d queries and %d variables of %s have figures, and %d exemplars lead to a trace", queries, len(variables), dashboard, exemplars)
}

// exemplarsOf returns the traces that Prometheus has as exemplars for a query.
func exemplarsOf(t *testing.T, address, query string) (traces []string) {
	t.Helper()
	var series []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	ask(t, address, "/api/v1/query_exemplars", url.Values{
		"query": {query},
		"start": {fmt.Sprint(time.Now().Add(-5 * time.Minute).Unix())}, "end": {fmt.Sprint(time.Now().Add(time.Minute).Unix())},
	}, &series)
	for _, s := range series {
		for _, e := range s.Exemplars {
			traces = append(traces, e.Labels["trace_id"])
		}
	}
	return traces
}

// TestPrometheus has a real Prometheus scrape, and asks it for every panel of the
// dashboard, a native histogram, and exemplars.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	n, r, address := launchScraped(t, map[string]string{"clntrace-payments": "outcomes", "clntrace-group-requests": "true"})
	at := otlptest.FreeAddress(t)
	startPrometheus(t, at, address)
	query := func(q string) func() bool { return func() bool { return hasFigure(t, at, q) } }
	wait.For(t, "Prometheus to scrape", query(`clntrace_datagrams_total`))
	live(t, n) // after a first scrape, so that rates see it
	wait.For(t, "Prometheus to scrape a payment", query(`cln_payment_duration_seconds_count`))
	live(t, n)
	wait.For(t, "classic buckets", query(`rate(cln_payment_duration_seconds_bucket{le="+Inf"}[1m]) > 0`))
	wait.For(t, "the second request", query(`rate(cln_span_duration_seconds_count{span_name="request"}[1m]) > 0`))
	wait.For(t, "native histograms", query(`histogram_quantile(0.5, sum(rate(cln_span_duration_seconds[1m]))) > 0`))
	wait.For(t, "exemplars", func() bool { return len(exemplarsOf(t, at, `cln_request_wait_seconds_bucket`)) > 0 })
	endCleanly(t, n)
	checkShown(t, at, "grafana-dashboard-scraped.json", r)
}

// TestPrometheusTakesOTLP has a real Prometheus take what is sent over OTLP, and asks it
// for every panel of the dashboard. It takes a minute, because metrics go out every 30 s.
func TestPrometheusTakesOTLP(t *testing.T) {
	t.Parallel()
	at, r := otlptest.FreeAddress(t), otlptest.Start(t)
	startPrometheus(t, at, otlptest.FreeAddress(t), "--web.enable-otlp-receiver")
	both := http.NewServeMux() // because clntrace sends spans and metrics to one endpoint
	both.Handle("/v1/metrics", proxy(t, "http://"+at+"/api/v1/otlp"))
	both.Handle("/", proxy(t, r.HTTPEndpoint()))
	endpoint := httptest.NewServer(both)
	t.Cleanup(endpoint.Close)
	n := launch(t, config(r, map[string]string{
		"clntrace-otlp-protocol": "http/protobuf", "clntrace-otlp-endpoint": endpoint.URL, "clntrace-metrics": "",
		"clntrace-payments": "outcomes", "clntrace-group-requests": "true", "clntrace-service-namespace": "fleet",
	}))
	slow := "00000000000000c300000000000000c3"
	send(t, n.Senders(sender).Start("lightningd"), recording.New(recording.Span{
		TraceID: slow, ID: "00000000000000c3", Name: "plugin/bitcoind", Start: now().Add(-5 * time.Second), Duration: 5 * time.Second,
		Tags: map[string]string{"method": "getchaininfo"},
	}))
	settled(t, n, 1)
	live(t, n) // and the same, fast
	wait.For(t, "Prometheus to take the metrics", func() bool { return hasFigure(t, at, `cln_payment_duration_seconds`) })
	live(t, n)
	if got := stats(t, n); strings.Contains(fmt.Sprint(got.Warnings), "metrics") {
		t.Errorf("%v", got.Warnings)
	}
	endCleanly(t, n) // the last figures go out at the end, so that there are rates
	checkShown(t, at, "grafana-dashboard.json", r)
	if list := exemplarsOf(t, at, `cln_span_duration_seconds{span_name="plugin/bitcoind"}`); !slices.Contains(list, slow) {
		t.Errorf("the slow call is not among %v", list)
	}
}

func proxy(t *testing.T, to string) http.Handler {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return httputil.NewSingleHostReverseProxy(target)
}
