package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	calls  string // URL of its service map; empty: it has none
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
		args:  []string{"--config=$CONFIG"},
		ready: "http://$QUERY/api/services",
		otlp:  "http://$OTLP/v1/traces",
		trace: "http://$QUERY/api/traces/",
		calls: "http://$QUERY/api/dependencies?lookback=604800000&endTs=",
		read:  readJaeger,
	},
	{
		variable: "VICTORIATRACES",
		args:     []string{"-httpListenAddr=$QUERY", "-storageDataPath=$DIR", "-retentionPeriod=100y"},
		ready:    "http://$QUERY/health",
		otlp:     "http://$QUERY/insert/opentelemetry/v1/traces",
		trace:    "http://$QUERY/select/jaeger/api/traces/",
		read:     readJaeger,
	},
	{
		variable: "TEMPO",
		config: `
server: {http_listen_address: $QUERY_HOST, http_listen_port: $QUERY_PORT, grpc_listen_address: $GRPC_HOST, grpc_listen_port: $GRPC_PORT}
memberlist: {bind_addr: ["$GOSSIP_HOST"], bind_port: $GOSSIP_PORT}
distributor: {receivers: {otlp: {protocols: {http: {endpoint: "$OTLP"}}}}}
storage: {trace: {backend: local, wal: {path: "$DIR/wal"}, local: {path: "$DIR/blocks"}}}
usage_report: {reporting_enabled: false}`,
		args:  []string{"-config.file=$CONFIG"},
		ready: "http://$QUERY/ready",
		otlp:  "http://$OTLP/v1/traces",
		trace: "http://$QUERY/api/traces/",
		read:  readOTLP,
	},
}

// TestBackends reads back from each backend what was sent to it: a start, a payment, one
// that failed, and one that crosses three nodes; and what a real lightningd sends, if
// there is one.
func TestBackends(t *testing.T) {
	for _, p := range products {
		t.Run(p.variable, func(t *testing.T) {
			program := os.Getenv(p.variable)
			if program == "" {
				t.Skip("name an executable in " + p.variable + " to run this test")
			}
			p.start(t, program)
			r := otlptest.Start(t)
			r.SetAnswer(p.relay)
			sendAll(t, r)
			lightningd := os.Getenv("LIGHTNINGD")
			if lightningd != "" {
				n := startReal(t, lightningd, r.GRPCEndpoint())
				failToPay(t, n, r)
				checkStop(t, n)
			}
			p.check(t, r.Spans())
			if p.calls != "" && lightningd != "" {
				p.checkCalls(t)
			}
		})
	}
}

// sendAll sends from three nodes, and ends when all of it has come to r.
func sendAll(t *testing.T, r *otlptest.Receiver) {
	t.Helper()
	var nodes [3]*lightningdtest.Node
	var actors [3]*actor
	for i := range nodes {
		nodes[i] = launch(t, config(r, map[string]string{"clntrace-payments": "all", "clntrace-group-requests": "true"}))
		actors[i] = newActor(t, nodes[i])
	}
	for _, name := range []string{recording.Startup, recording.Xpay} {
		nodes[0].Senders(sender).Replay(load(t, name))
	}
	actors[0].pay("cli:xpay#7/cln:xpay#8", hash, false, true)
	actors[1].forward()
	actors[2].receive()
	actors[0].pay("cli:xpay#9/cln:xpay#10", strings.Repeat("ab", 32), false)
	r.Wait(t, "the roots of the payments", func(spans []otlptest.Span) bool {
		ended, failed := 0, 0
		for _, s := range spans {
			if s.Name == "xpay" && s.Attributes["cln.synthetic"] == true {
				ended++
				if s.Status == "Error" {
					failed++
				}
			}
		}
		return ended == 3 && failed == 1
	})
	for _, n := range nodes {
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
	values := []string{"$DIR", filepath.Join(dir, "data"), "$CONFIG", filepath.Join(dir, "config.yaml")}
	for _, name := range []string{"$QUERY", "$OTLP", "$GRPC", "$GOSSIP"} {
		address := otlptest.FreeAddress(t)
		host, port, _ := net.SplitHostPort(address)
		values = append(values, name+"_HOST", host, name+"_PORT", port, name, address)
	}
	fill := strings.NewReplacer(values...).Replace
	for _, text := range []*string{&p.config, &p.ready, &p.otlp, &p.trace, &p.calls} {
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
	wait.For(t, program, func() bool { _, err := get(p.ready); return err == nil })
}

// get returns the body of an answer 200.
func get(url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/protobuf, application/json;q=0.9")
	return answer(http.DefaultClient.Do(request))
}

func answer(response *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, err
}

// relay passes a request on as it is.
func (p *product) relay(_ context.Context, r otlptest.Request) error {
	body, err := ptraceotlp.NewExportRequestFromTraces(r.Traces).MarshalProto()
	if err != nil {
		return err
	}
	_, err = answer(http.Post(p.otlp, "application/x-protobuf", bytes.NewReader(body))) //nolint:noctx // ends with the backend
	return err
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
		deadline := time.Now().Add(wait.Limit)
		for ; len(got) < len(want) && time.Now().Before(deadline); time.Sleep(wait.Pause) {
			got = nil
			body, err := get(p.trace + id)
			if err != nil {
				continue // not there yet
			}
			spans, err := p.read(body)
			if err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			for _, s := range spans {
				got = append(got, essence(s))
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("trace %s:\n%s\nwas sent as\n%s", id, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	t.Logf("%d spans in %d traces", len(sent), len(traces))
}

// checkCalls looks for a plugin that calls lightningd in the service map.
func (p *product) checkCalls(t *testing.T) {
	t.Helper()
	body, err := get(p.calls + fmt.Sprint(time.Now().UnixMilli()))
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
		if c.Child == "lightningd" && c.Parent != c.Child {
			return
		}
	}
	t.Errorf("no plugin calls lightningd in the service map: %s", body)
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
	if len(a.Data) == 0 {
		return nil, nil
	}
	for _, s := range a.Data[0].Spans {
		span := otlptest.Span{
			TraceID: s.TraceID, ID: s.SpanID, Name: s.OperationName, Start: time.UnixMicro(s.StartTime),
			Duration: time.Duration(s.Duration) * time.Microsecond,
			Resource: object{"service.name": a.Data[0].Processes[s.ProcessID].ServiceName},
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
	return spans, nil
}
