package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// product is a backend that people have.
type product struct {
	variable string // names its executable
	// config is its configuration, in which $QUERY, $OTLP and so on stand for
	// addresses of its own, and $DIR for a directory.
	config string
	args   []string // in which $CONFIG is the configuration's file
	ready  string   // URL, answers 200 when it is
	otlp   string   // URL, takes OTLP over HTTP
	trace  string   // URL, to which the trace id is added
	read   func(body []byte) ([]otlptest.Span, error)
	// list is the URL of a search for the traces in which $SERVICE has a span $NAME.
	list string
	// titles are what a list shows of each trace, process and name, by trace id.
	titles   func(body []byte) (map[string]string, error)
	rootless string // the title of a trace without its root
	// calls returns who calls whom; nil: it has no service map.
	calls     func(t *testing.T, p *product) (pairs [][2]string)
	addresses map[string]string // by their names in config
	// queries is the URL to which a query of the page is added; empty: it has no such language.
	queries string
}

var products = []product{
	{
		variable: "JAEGER",
		config: `
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines: {traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {metrics: {level: none}}
extensions:
  jaeger_query: {enable_tracing: false, storage: {traces: memory}, http: {endpoint: "$QUERY"}, grpc: {endpoint: "$GRPC"}}
  jaeger_storage: {backends: {memory: {memory: {max_traces: 10000}}}}
receivers: {otlp: {protocols: {http: {endpoint: "$OTLP"}}}}
exporters: {jaeger_storage_exporter: {trace_storage: memory}}`,
		args:     []string{"--config=$CONFIG"},
		ready:    "http://$QUERY/api/services",
		otlp:     "http://$OTLP/v1/traces",
		trace:    "http://$QUERY/api/traces/",
		read:     readJaeger,
		list:     "http://$QUERY/api/traces?service=$SERVICE&operation=$NAME&limit=1000&start=0&end=4000000000000000",
		titles:   jaegerTitles,
		rootless: "cln-xpay: late child",
		calls:    jaegerCalls,
	},
	{
		variable: "VICTORIATRACES",
		args:     []string{"-httpListenAddr=$QUERY", "-storageDataPath=$DIR", "-retentionPeriod=100y"},
		ready:    "http://$QUERY/health",
		otlp:     "http://$QUERY/insert/opentelemetry/v1/traces",
		trace:    "http://$QUERY/select/jaeger/api/traces/",
		read:     readJaeger,
		list:     "http://$QUERY/select/jaeger/api/traces?service=$SERVICE&operation=$NAME&limit=1000&start=0&end=4000000000000000",
		rootless: "cln-xpay: late child",
		titles:   jaegerTitles,
	},
	{
		variable: "TEMPO",
		// A search sees what has been idle for max_trace_idle, 5 s by default.
		config: `
server: {http_listen_address: $QUERY_HOST, http_listen_port: $QUERY_PORT, grpc_listen_address: $GRPC_HOST, grpc_listen_port: $GRPC_PORT}
memberlist: {bind_addr: ["$GOSSIP_HOST"], bind_port: $GOSSIP_PORT}
distributor: {receivers: {otlp: {protocols: {http: {endpoint: "$OTLP"}}}}}
live_store: {max_trace_idle: 1s, flush_check_period: 1s, wal: {path: "$DIR/live"}, shutdown_marker_dir: "$DIR/marker"}
block_builder: {wal: {path: "$DIR/builder"}}
backend_scheduler: {local_work_path: "$DIR/scheduler"}
query_frontend: {query_end_cutoff: 0s}
metrics_generator:
  storage: {path: "$DIR/generator", remote_write: [{url: "http://$METRICS/api/v1/write"}]}
overrides: {defaults: {metrics_generator: {processors: [service-graphs], collection_interval: 1s}}}
storage: {trace: {backend: local, wal: {path: "$DIR/wal"}, local: {path: "$DIR/blocks"}}}
usage_report: {reporting_enabled: false}`,
		args:     []string{"-config.file=$CONFIG"},
		ready:    "http://$QUERY/ready",
		otlp:     "http://$OTLP/v1/traces",
		trace:    "http://$QUERY/api/traces/",
		read:     readOTLP,
		list:     `http://$QUERY/api/search?limit=1000&q={resource.service.name="$SERVICE"%26%26name="$NAME"}`,
		titles:   tempoTitles,
		rootless: "<root span not yet received>: ",
		calls:    tempoCalls,
		queries:  "http://$QUERY/api/search?limit=1000&q=",
	},
}

// TestBackends reads back from each backend what was sent to all of them: a start, a
// payment, one that failed, and one that crosses three nodes; and what a real lightningd
// sends, if there is one.
func TestBackends(t *testing.T) {
	var running []*product
	for i := range products {
		p := &products[i]
		program := os.Getenv(p.variable)
		if program == "" {
			t.Run(p.variable, func(t *testing.T) { t.Skip("name an executable in " + p.variable + " to run this test") })
			continue
		}
		p.start(t, program)
		running = append(running, p)
	}
	if len(running) == 0 {
		return
	}
	r := otlptest.Start(t)
	r.SetAnswer(func(_ context.Context, request otlptest.Request) error {
		var failed []error
		for _, p := range running {
			failed = append(failed, p.send(request.Traces))
		}
		return errors.Join(failed...)
	})
	exemplars := sendAll(t, r)
	t.Run("LIGHTNINGD", func(t *testing.T) {
		n := startReal(t, findLightningd(t), r.GRPCEndpoint())
		failToPay(t, n, r)
		checkStop(t, n)
	})
	for _, p := range running {
		t.Run(p.variable, func(t *testing.T) {
			p.check(t, r.Spans())
			p.checkExemplars(t, exemplars)
			p.checkList(t, r.Spans())
			p.checkLateRoot(t)
			t.Run("service map", func(t *testing.T) { p.checkCalls(t) })
			t.Run("queries", func(t *testing.T) { p.checkQueries(t) })
		})
	}
}

// sendAll sends from three nodes, and ends when all of it has come to r. It returns the
// traces that Prometheus would know from the first node's exemplars.
func sendAll(t *testing.T, r *otlptest.Receiver) (exemplars []string) {
	t.Helper()
	var nodes [3]*lightningdtest.Node
	var actors [3]*actor
	var addresses [3]string
	for i := range nodes {
		addresses[i] = strings.TrimPrefix(otlptest.Reserve(t).GRPCEndpoint(), "http://")
		nodes[i] = launch(t, config(r, map[string]string{"clntrace-payments": "all", "clntrace-group-requests": "true", "clntrace-prometheus-listen": addresses[i]}))
		actors[i] = newActor(t, nodes[i])
	}
	nodes[0].Senders(sender).Replay(load(t, recording.Startup))
	nodes[2].Senders(sender).Replay(load(t, recording.Xpay)) // not beside parts that notifications tell of
	actors[0].pay("cli:xpay#7/cln:xpay#8", hash, false, true)
	actors[1].forward()
	actors[2].receive()
	actors[0].pay("cli:xpay#9/cln:xpay#10", strings.Repeat("ab", 32), false)
	pair(t, nodes[0])
	roots := map[any]string{} // status by request
	r.Wait(t, "the roots of the payments", func(spans []otlptest.Span) bool {
		for _, s := range spans {
			if s.Name == "xpay" && s.Attributes["cln.synthetic"] == true {
				roots[s.Attributes["cln.request.root"]] = s.Status
			}
		}
		return len(roots) == 3
	})
	if roots["cli:xpay#7"] != "Unset" || roots["cli:xpay#9"] != "Error" {
		t.Errorf("the payments ended as %v", roots)
	}
	for i, n := range nodes {
		for _, e := range traceOf.FindAllSubmatch(scrapeAs(t, addresses[i], acceptOpenMetrics), -1) {
			exemplars = append(exemplars, string(e[1]))
		}
		endCleanly(t, n)
	}
	crossed := 0
	for _, s := range r.Spans() {
		if s.Attributes["cln.payment.hash"] == hash && s.ParentID == "" && (s.Name == "payment" || s.Name == "forward" || s.Name == "invoice paid") {
			crossed++
		}
	}
	if crossed != 3 {
		t.Errorf("%d of 3 nodes have a span in the payment's trace", crossed)
	}
	return exemplars
}

// failToPay makes a plugin of a node call lightningd, and ends when that has come to r.
func failToPay(t *testing.T, n *realNode, r *otlptest.Receiver) {
	t.Helper()
	const anybody = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
	if _, refused := n.call(t, "keysend", object{"destination": anybody, "amount_msat": 1000}); refused == nil {
		t.Fatal("paid without a channel")
	}
	r.Wait(t, "the request's root", func(spans []otlptest.Span) bool {
		return slices.ContainsFunc(spans, func(s otlptest.Span) bool {
			return s.Name == "keysend" && s.Attributes["cln.synthetic"] == true
		})
	})
}

// start starts the backend, which ends with the test, and fills in its addresses.
func (p *product) start(t *testing.T, program string) {
	t.Helper()
	dir := lightningdtest.Dir(t)
	p.addresses = map[string]string{}
	values := []string{"$DIR", filepath.Join(dir, "data"), "$CONFIG", filepath.Join(dir, "config.yaml")}
	for _, name := range []string{"$QUERY", "$OTLP", "$GRPC", "$GOSSIP", "$METRICS"} {
		address := otlptest.FreeAddress(t)
		host, port, _ := net.SplitHostPort(address)
		values = append(values, name+"_HOST", host, name+"_PORT", port, name, address)
		p.addresses[name] = address
	}
	fill := strings.NewReplacer(values...).Replace
	for _, text := range []*string{&p.config, &p.ready, &p.otlp, &p.trace, &p.list, &p.queries} {
		*text = fill(*text)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(p.config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	for _, a := range p.args {
		cmd.Args = append(cmd.Args, fill(a))
	}
	var output lightningdtest.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", program, output.String())
		}
	})
	wait.For(t, program, func() bool { _, err := otlptest.Get(p.ready, "*/*"); return err == nil })
}

// send passes traces on as they are.
func (p *product) send(traces ptrace.Traces) error {
	body, err := ptraceotlp.NewExportRequestFromTraces(traces).MarshalProto()
	if err != nil {
		return err
	}
	return otlptest.Post(p.otlp, body)
}

// spans are what the backend has of a trace; none: it is not there yet.
func (p *product) spans(t *testing.T, id string) []otlptest.Span {
	t.Helper()
	body, err := otlptest.Get(p.trace+id, "application/protobuf, application/json;q=0.9")
	if err != nil {
		return nil
	}
	spans, err := p.read(body)
	if err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return spans
}

// check compares what the backend has with what it was sent.
func (p *product) check(t *testing.T, sent []otlptest.Span) {
	t.Helper()
	traces := map[string][]string{}
	for _, s := range sent {
		traces[s.TraceID] = append(traces[s.TraceID], essence(s))
	}
	for id, want := range traces {
		var got []string
		wait.For(t, fmt.Sprintf("%d spans of trace %s", len(want), id), func() bool {
			got = nil
			for _, s := range p.spans(t, id) {
				got = append(got, essence(s))
			}
			return len(got) >= len(want)
		})
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("trace %s:\n%s\nwas sent as\n%s", id, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	t.Logf("%d spans in %d traces", len(sent), len(traces))
}

// checkExemplars opens the traces that Prometheus knows.
func (p *product) checkExemplars(t *testing.T, traces []string) {
	t.Helper()
	for _, id := range traces {
		if len(p.spans(t, id)) == 0 {
			t.Errorf("the exemplar %s opens no trace", id)
		}
	}
	if len(traces) < 10 {
		t.Errorf("%d exemplars", len(traces))
	}
}

// checkList looks for the requests to pay in a list of traces, where each shall be
// called after what was asked for.
func (p *product) checkList(t *testing.T, sent []otlptest.Span) {
	t.Helper()
	want := map[string]string{}
	for _, s := range sent {
		// Not the recorded one, which is older than what Tempo searches.
		if s.Name == "xpay" && s.Attributes["cln.payment.parts"] != nil {
			want[s.TraceID] = "cln-xpay: xpay"
		}
	}
	p.waitList(t, "xpay", want)
}

// waitList waits until the list of the traces in which cln-xpay has a span of that name has
// these titles.
func (p *product) waitList(t *testing.T, name string, want map[string]string) {
	t.Helper()
	search := strings.NewReplacer("$SERVICE", "cln-xpay", "$NAME", url.QueryEscape(name)).Replace(p.list)
	var got map[string]string
	var failed error
	listed := func() bool {
		for id, title := range want {
			if got[id] != title {
				return false
			}
		}
		return failed == nil
	}
	defer func() {
		if !listed() {
			t.Errorf("%s lists %v, want %v; %v", search, got, want, failed)
		}
	}()
	wait.For(t, "the list", func() bool {
		var body []byte
		if body, failed = otlptest.Get(search, "application/json"); failed == nil {
			got, failed = p.titles(body)
		}
		return listed()
	})
}

// checkLateRoot sends a span, and its root when the backend has shown the span.
func (p *product) checkLateRoot(t *testing.T) {
	t.Helper()
	const id = "0af7651916cd43dd8448eb211c80319c" // that of a trace, and its beginning is that of the root
	began := now().Add(-time.Second)
	span := func(name string, parent bool) ptrace.Traces {
		traces := ptrace.NewTraces()
		rs := traces.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", "cln-xpay")
		s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		s.SetName(name)
		s.SetTraceID(pcommon.TraceID(unhex(id)))
		s.SetSpanID(pcommon.SpanID(unhex(id[:16])))
		if parent {
			s.SetParentSpanID(s.SpanID())
			s.SetSpanID(pcommon.SpanID(unhex(id[16:])))
		}
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(began))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(began.Add(500 * time.Millisecond)))
		return traces
	}
	var sent []otlptest.Span
	for _, part := range []ptrace.Traces{span("late child", true), span("late root", false)} {
		if err := p.send(part); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, otlptest.SpansOf(part)...)
		p.check(t, sent)
		if len(sent) == 1 { // so that the root does not come to what waits in memory
			p.waitList(t, "late child", map[string]string{id: p.rootless})
		}
	}
	p.waitList(t, "late root", map[string]string{id: "cln-xpay: late root"})
}

// checkCalls looks for a plugin that calls lightningd in the service map.
func (p *product) checkCalls(t *testing.T) {
	t.Helper()
	if p.calls == nil {
		t.Skip("it has none")
	}
	findLightningd(t) // whose plugins did
	wait.For(t, "a plugin to call lightningd", func() bool {
		return slices.ContainsFunc(p.calls(t, p), func(pair [2]string) bool {
			return pair[1] == "lightningd" && pair[0] != "lightningd" && pair[0] != "user" // whom Tempo invents
		})
	})
}

// jaegerCalls asks Jaeger who calls whom.
func jaegerCalls(t *testing.T, p *product) (pairs [][2]string) {
	t.Helper()
	body, err := otlptest.Get("http://"+p.addresses["$QUERY"]+"/api/dependencies?lookback=604800000&endTs="+fmt.Sprint(time.Now().UnixMilli()), "application/json")
	if err != nil {
		t.Fatal(err)
	}
	var calls struct {
		Data []struct{ Parent, Child string }
	}
	if err := json.Unmarshal(body, &calls); err != nil {
		t.Fatal(err)
	}
	for _, c := range calls.Data {
		pairs = append(pairs, [2]string{c.Parent, c.Child})
	}
	return pairs
}

// tempoCalls asks the Prometheus to which Tempo writes who calls whom, and starts it if
// need be.
func tempoCalls(t *testing.T, p *product) (pairs [][2]string) {
	t.Helper()
	at := p.addresses["$METRICS"]
	ready := func() bool { _, err := otlptest.Get("http://"+at+"/-/ready", "*/*"); return err == nil }
	if !ready() {
		startPrometheus(t, at, "localhost:9464", "--web.enable-remote-write-receiver")
		wait.For(t, "Prometheus", ready)
	}
	var vector struct {
		Result []struct {
			Metric struct{ Client, Server string }
		}
	}
	ask(t, at, "/api/v1/query", url.Values{"query": {"traces_service_graph_request_total"}}, &vector)
	for _, r := range vector.Result {
		pairs = append(pairs, [2]string{r.Metric.Client, r.Metric.Server})
	}
	return pairs
}

var traceQL = regexp.MustCompile("(?s)```traceql\n(.*?)```")

// checkQueries runs the page's queries, each of which has to find something.
func (p *product) checkQueries(t *testing.T) {
	t.Helper()
	if p.queries == "" {
		t.Skip("it has no language for them")
	}
	page, err := os.ReadFile("deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := traceQL.FindSubmatch(page)
	if block == nil {
		t.Fatal("the page has no queries")
	}
	for query := range strings.Lines(string(block[1])) {
		query, _, _ = strings.Cut(query, " //")
		query = strings.NewReplacer("HASH", hash, "> 5s", "> 20ms", "> 0.1", "> 0.01").Replace(query)
		wait.For(t, query, func() bool {
			body, err := otlptest.Get(p.queries+url.QueryEscape(query), "application/json")
			if err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			titles, err := p.titles(body)
			return err == nil && len(titles) > 0
		})
	}
}

// essence is what every backend has to keep of a span. Jaeger's API knows µs.
func essence(s otlptest.Span) string {
	links := make([]string, len(s.Links))
	for i, l := range s.Links {
		links[i] = l.TraceID + "/" + l.SpanID
	}
	slices.Sort(links)
	return fmt.Sprintf("%s under %q: %v %s from %d for %d µs, error %v, links %v", s.ID, s.ParentID,
		s.Resource["service.name"], s.Name, s.Start.UnixMicro(), s.Duration.Microseconds(), s.Status == "Error", links)
}

func readOTLP(body []byte) ([]otlptest.Span, error) {
	traces, err := new(ptrace.ProtoUnmarshaler).UnmarshalTraces(body)
	if err != nil {
		return nil, err
	}
	return otlptest.SpansOf(traces), nil
}

// readJaeger reads an answer of Jaeger's HTTP API.
func readJaeger(body []byte) (spans []otlptest.Span, err error) {
	var a struct {
		Data []struct {
			Spans []struct {
				TraceID, SpanID, OperationName, ProcessID string
				References                                []struct{ RefType, TraceID, SpanID string }
				StartTime, Duration                       int64 // µs
				Tags                                      []struct {
					Key   string
					Value any
				}
			}
			Processes map[string]struct{ ServiceName string }
		}
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	for _, trace := range a.Data {
		for _, s := range trace.Spans {
			span := otlptest.Span{
				TraceID: s.TraceID, ID: s.SpanID, Name: s.OperationName, Start: time.UnixMicro(s.StartTime),
				Duration: time.Duration(s.Duration) * time.Microsecond,
				Resource: object{"service.name": trace.Processes[s.ProcessID].ServiceName},
			}
			for _, r := range s.References {
				switch {
				case r.RefType == "CHILD_OF" && r.TraceID == s.TraceID && span.ParentID == "":
					span.ParentID = r.SpanID
				case r.RefType == "FOLLOWS_FROM":
					span.Links = append(span.Links, otlptest.Link{TraceID: r.TraceID, SpanID: r.SpanID})
				default:
					return nil, errors.New("a reference of another kind: " + r.RefType)
				}
			}
			for _, tag := range s.Tags {
				if tag.Key == "error" && fmt.Sprint(tag.Value) == "true" {
					span.Status = "Error"
				}
			}
			spans = append(spans, span)
		}
	}
	return spans, nil
}

// jaegerTitles reads Jaeger's list, which has whole traces, and calls each after its root.
func jaegerTitles(body []byte) (map[string]string, error) {
	spans, err := readJaeger(body)
	known := map[string]bool{}
	for _, s := range spans {
		known[s.TraceID+s.ID] = true
	}
	titles := map[string]string{}
	for _, s := range spans {
		if s.ParentID == "" || !known[s.TraceID+s.ParentID] {
			titles[s.TraceID] = fmt.Sprintf("%v: %s", s.Resource["service.name"], s.Name)
		}
	}
	return titles, err
}

// tempoTitles reads Tempo's list.
func tempoTitles(body []byte) (map[string]string, error) {
	var list struct {
		Traces []struct{ TraceID, RootServiceName, RootTraceName string }
	}
	err := json.Unmarshal(body, &list)
	titles := map[string]string{}
	for _, trace := range list.Traces {
		// It leaves out zeros in front.
		titles[strings.Repeat("0", 32-len(trace.TraceID))+trace.TraceID] = trace.RootServiceName + ": " + trace.RootTraceName
	}
	return titles, err
}
