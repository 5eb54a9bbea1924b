package export

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/memory"
	"clntrace/collector/otlp"
	"clntrace/collector/otlp/otlptest"
	"clntrace/collector/policy"
	"clntrace/collector/process"
	"clntrace/collector/recording"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
	"clntrace/collector/zipkin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var pay = &process.Identity{PID: 42, Name: "pay", Known: true, StartTime: 7}

// newSpan returns a span with an id of its own; tags are pairs.
func newSpan(id uint64, name string, tags ...string) *correlate.Span {
	s := &correlate.Span{Process: pay, Span: zipkin.Span{Name: name, Timestamp: 1795324398371053, Duration: 501}}
	for i := range 8 {
		s.ID[i], s.TraceID[i+8] = byte(id>>(8*(7-i))), byte((id*0x9e3779b97f4a7c15)>>(8*(7-i)))
	}
	s.TraceID[0] = 1
	for i := 0; i+1 < len(tags); i += 2 {
		s.Tags = append(s.Tags, zipkin.Tag{Key: tags[i], Value: tags[i+1]})
	}
	return s
}

// newOutgoing returns s as it is exported, before it is described.
func newOutgoing(s *correlate.Span) *readOnlySpan { return &readOnlySpan{in: s, out: new(outgoing)} }

func mustParse(t testing.TB, endpoint string) otlp.Endpoint {
	t.Helper()
	e, err := otlp.ParseEndpoint(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// received returns how often each span has arrived, by id.
func received(r *otlptest.Receiver) map[string]int {
	ids := make(map[string]int)
	for _, s := range r.Spans() {
		ids[fmt.Sprintf("%x", s.GetSpanId())]++
	}
	return ids
}

func config(e otlp.Endpoint) Config {
	return Config{
		Config:      otlp.Config{Endpoint: e, Protocol: otlp.ProtocolGRPC, Timeout: time.Minute, Compression: otlp.CompressionNone},
		SampleRatio: 1, QueueSize: 1000, BatchSize: 100, BatchDelay: 5 * time.Millisecond,
	}
}

// testPipeline is a Pipeline with its ledger and log.
type testPipeline struct {
	*Pipeline
	ledger stats.Ledger
	room   *memory.Room
	policy atomic.Pointer[policy.Policy]
	log    logBuffer
	t      *testing.T
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newTestPipeline(t *testing.T) *testPipeline {
	p := &testPipeline{t: t}
	p.init()
	t.Cleanup(func() { p.shutdown(0) })
	return p
}

func (p *testPipeline) init() {
	p.room = memory.NewRoom(DefaultQueueSize, SpanOverhead)
	p.Pipeline = NewPipeline(Options{
		Ledger: &p.ledger, Room: p.room, Policy: p.policy.Load,
		Logger: slog.New(slog.NewTextHandler(&p.log, nil)), Voice: voice.Plugin, Version: "test",
	})
}

func (p *testPipeline) start(cfg Config) *testPipeline {
	p.t.Helper()
	p.policy.Store(policyOf(cfg))
	p.room.SetLimit(cfg.QueueSize)
	if err := p.Start(cfg); err != nil {
		p.t.Fatal(err)
	}
	return p
}

func policyOf(cfg Config) *policy.Policy {
	return policy.New(policy.Config{
		Off: cfg.Endpoint.Off(), SampleRatio: cfg.SampleRatio, DropSpans: cfg.DropSpans, RedactTags: cfg.RedactTags,
	})
}

// send books spans as accepted and submits those for which there is room, unless the
// endpoint is off.
func (p *testPipeline) send(spans ...*correlate.Span) {
	n := int64(len(spans))
	counts := stats.Counts{Received: n, Accepted: n}
	var submitted []*correlate.Span
	for _, s := range spans {
		switch {
		case p.policy.Load().Verdict(s) != policy.Leaves:
			counts.Filtered++
		case p.room.Take(s):
			counts.Pending++
			submitted = append(submitted, s)
		default:
			counts.DroppedQueueFull++
		}
	}
	p.ledger.Book(counts, time.Now())
	p.Submit(submitted)
}

func (p *testPipeline) shutdown(patience time.Duration) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.Shutdown(ctx)
}

// want holds the counts of spans against want, after everything has ended.
func (p *testPipeline) want(want stats.Counts) {
	p.t.Helper()
	got := p.ledger.Counts()
	if !got.Balanced() {
		p.t.Errorf("the counts do not add up: %+v", got)
	}
	got.Received, got.Accepted = 0, 0
	if got != want {
		p.t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEveryMethodOfASpanIsOurOwn(t *testing.T) {
	s := newOutgoing(newSpan(1, "jsonrpc", "id", "a/b"))
	v := reflect.ValueOf(sdktrace.ReadOnlySpan(s))
	readOnly := reflect.TypeFor[sdktrace.ReadOnlySpan]()
	for i := range readOnly.NumMethod() {
		m := readOnly.Method(i)
		if m.PkgPath != "" {
			continue // the unexported one, which nobody can call
		}
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s is not overridden: %v", m.Name, r)
				}
			}()
			v.MethodByName(m.Name).Call(nil)
		}()
	}
}

// attributesOf exports s and returns what of it can be seen.
func attributesOf(s *correlate.Span, cfg Config, database string) (*readOnlySpan, string) {
	out := newOutgoing(s)
	d := newDescriptions(databaseSystem(database))
	d.begin(policyOf(cfg))
	d.describe(out.in, out.out)
	var list []string
	for _, a := range out.Attributes() {
		list = append(list, string(a.Key)+"="+a.Value.String())
	}
	return out, strings.Join(list, " ")
}

func TestAttributes(t *testing.T) {
	withDetail := func(s *correlate.Span, text string) *correlate.Span { s.Detail = text; return s }
	grouped := withDetail(newSpan(1, "jsonrpc", "id", "cli:pay#1/cln:pay#2/pay:x#3", "error", "true"), "x")
	grouped.Request = "cli:pay#1"
	grouped.SentTraceID, grouped.SentID = trace.TraceID{1}, trace.SpanID{2}
	truncated := newSpan(1, "jsonrpc", "id", "cut…")
	truncated.Truncated, truncated.ParentID = true, trace.SpanID{9}
	root := withDetail(newSpan(1, "pay"), "pay")
	root.Synthetic, root.Request = true, "cli:pay#1"
	open := new(*root)
	open.Incomplete = true
	pairedSpan := withDetail(newSpan(1, "jsonrpc", "id", "cli:pay#1/cln:pay#2/pay:x#3"), "x")
	pairedSpan.Paired, pairedSpan.Wait, pairedSpan.Work = true, 156*time.Microsecond, 353*time.Microsecond
	moved := withDetail(newSpan(1, "lightningd/jsonrpc", "method", "x"), "x")
	moved.SentTraceID = trace.TraceID{7}
	for _, tc := range []struct {
		what     string
		span     *correlate.Span
		database string
		want     string
		kind     trace.SpanKind
		status   string
	}{
		{"statement", withDetail(newSpan(1, "db_exec_prepared", "query", "UPDATE vars SET x=?"), "UPDATE vars"), "sqlite3",
			"db.query.text=UPDATE vars SET x=? db.query.summary=UPDATE vars db.system.name=sqlite cln.span.name=db_exec_prepared", trace.SpanKindClient, "Unset"},
		{"statement of an unknown database", withDetail(newSpan(1, "db_query_prepared", "query", "SELECT"), "SELECT"), "",
			"db.query.text=SELECT db.query.summary=SELECT cln.span.name=db_query_prepared", trace.SpanKindClient, "Unset"},
		{"command", withDetail(newSpan(1, "lightningd/jsonrpc", "method", "getinfo"), "getinfo"), "",
			"method=getinfo rpc.system.name=jsonrpc rpc.method=getinfo cln.span.name=lightningd/jsonrpc", trace.SpanKindServer, "Unset"},
		{"backend", withDetail(newSpan(1, "plugin/bitcoind", "method", "getchaininfo"), "getchaininfo"), "",
			"method=getchaininfo rpc.system.name=jsonrpc rpc.method=getchaininfo cln.span.name=plugin/bitcoind", trace.SpanKindClient, "Unset"},
		{"request that failed", grouped, "",
			"id=cli:pay#1/cln:pay#2/pay:x#3 rpc.system.name=jsonrpc rpc.method=x cln.span.name=jsonrpc cln.request.root=cli:pay#1 " +
				"cln.trace_id=01000000000000000000000000000000 cln.span_id=0200000000000000", trace.SpanKindClient, "Error"},
		{"request that did not", newSpan(1, "jsonrpc", "id", "x", "error", "false"), "",
			"id=x rpc.system.name=jsonrpc", trace.SpanKindClient, "Unset"},
		{"an error that is no truth value", newSpan(1, "jsonrpc", "error", "perhaps"), "",
			"error=perhaps rpc.system.name=jsonrpc", trace.SpanKindClient, "Unset"},
		{"truncated", truncated, "",
			"id=cut… rpc.system.name=jsonrpc cln.truncated=true cln.parent.span_id=0900000000000000", trace.SpanKindClient, "Unset"},
		{"request that was paired", pairedSpan, "",
			"id=cli:pay#1/cln:pay#2/pay:x#3 rpc.system.name=jsonrpc rpc.method=x cln.span.name=jsonrpc cln.request.wait=0.000156 cln.request.work=0.000353", trace.SpanKindClient, "Unset"},
		{"root of what is open", open, "",
			"rpc.system.name=jsonrpc rpc.method=pay cln.request.root=cli:pay#1 cln.synthetic=true cln.incomplete=true", trace.SpanKindServer, "Unset"},
		{"work that has moved", moved, "",
			"method=x rpc.system.name=jsonrpc rpc.method=x cln.span.name=lightningd/jsonrpc cln.trace_id=07000000000000000000000000000000", trace.SpanKindServer, "Unset"},
		{"synthesized", root, "",
			"rpc.system.name=jsonrpc rpc.method=pay cln.request.root=cli:pay#1 cln.synthetic=true", trace.SpanKindServer, "Unset"},
		{"other", newSpan(1, "payment_continue", "modifier", "retry"), "", "modifier=retry", trace.SpanKindInternal, "Unset"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			out, got := attributesOf(tc.span, config(otlp.OffEndpoint), tc.database)
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if out.SpanKind() != tc.kind || out.Status().Code.String() != tc.status {
				t.Errorf("kind %v, status %v, want %v and %s", out.SpanKind(), out.Status().Code, tc.kind, tc.status)
			}
		})
	}
}

func TestTruncatedSpanIsARootAndRepairedOneIsNot(t *testing.T) {
	s := newSpan(1, "x")
	s.ParentID = trace.SpanID{9}
	if p := newOutgoing(s).Parent(); p.SpanID() != s.ParentID || p.TraceID() != s.TraceID {
		t.Errorf("parent %v", p)
	}
	s.Truncated = true
	if p := newOutgoing(s).Parent(); p.IsValid() {
		t.Errorf("a truncated span has the parent %v", p)
	}
}

func TestRedactionReachesWhatIsDerived(t *testing.T) {
	cfg := config(otlp.OffEndpoint)
	cfg.RedactTags = []string{"id", "query", "payment_hash", "method"}
	const secret = "s3cret"
	request := newSpan(1, "jsonrpc", "id", "cli:"+secret+"#1/cln:x#2/pay:"+secret+"#3")
	request.Detail, request.Request = secret, "cli:"+secret+"#1"
	query := newSpan(2, "db_exec_prepared", "query", secret)
	query.Detail = secret
	command := newSpan(3, "lightningd/jsonrpc", "method", secret)
	command.Detail = secret
	for _, s := range []*correlate.Span{request, query, command, newSpan(4, "xpay/payment", "payment_hash", secret)} {
		if _, got := attributesOf(s, cfg, "sqlite3"); strings.Contains(got, secret) || !strings.Contains(got, policy.Redacted) {
			t.Errorf("%s: %s", s.Name, got)
		}
		if got := policyOf(cfg).Detail(s); strings.Contains(got, secret) {
			t.Errorf("%s: detail %s", s.Name, got)
		}
	}
}

func TestRedactionReachesTheNameOfARoot(t *testing.T) {
	cfg := config(otlp.OffEndpoint)
	cfg.RedactTags = []string{"id"}
	const secret = "s3cret"
	root := newSpan(1, secret)
	root.Synthetic, root.Detail, root.Request = true, secret, "cli:"+secret+"#1"
	out, got := attributesOf(root, cfg, "")
	if out.Name() != policy.Redacted || strings.Contains(got, secret) {
		t.Errorf("name %q, attributes %s", out.Name(), got)
	}
	root.Synthetic = false
	if out, _ := attributesOf(root, cfg, ""); out.Name() != secret {
		t.Errorf("the name that a sender gave is exported as %q", out.Name())
	}
}

func TestLinksCarryTheirRelation(t *testing.T) {
	s := newSpan(1, "jsonrpc")
	s.Links = []correlate.Link{{Relation: correlate.ServedBy, TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}}
	out, _ := attributesOf(s, config(otlp.OffEndpoint), "")
	got := out.Links()
	if len(got) != 1 || got[0].SpanContext.SpanID() != s.Links[0].SpanID || !got[0].SpanContext.IsValid() ||
		!slices.Equal(got[0].Attributes, []attribute.KeyValue{attribute.String("cln.link", "served_by")}) {
		t.Errorf("got %+v", got)
	}
}

func TestResource(t *testing.T) {
	node := Node{ID: "02ab", Alias: "alice", Network: "regtest", Version: "v26.06.6"}
	unknown := &process.Identity{Name: "lightningd"}
	for _, tc := range []struct {
		what    string
		process *process.Identity
		change  func(*Config)
		want    map[string]string // "": absent
	}{
		{"process", pay, func(*Config) {}, map[string]string{
			"service.name": "pay", "process.pid": "42", "process.executable.name": "pay", "service.version": "v26.06.6",
			"service.instance.id": "02ab", "cln.node.id": "02ab", "cln.node.alias": "alice", "cln.network": "regtest", "service.namespace": "",
		}},
		{"unknown process", unknown, func(*Config) {}, map[string]string{
			"service.name": "lightningd", "process.pid": "", "process.executable.name": "",
		}},
		{"one name for all", pay, func(c *Config) { c.ServiceName, c.ServiceNamespace = "node1", "fleet" }, map[string]string{
			"service.name": "node1", "service.namespace": "fleet", "process.executable.name": "pay",
		}},
		{"the operator's own", pay, func(c *Config) {
			c.ResourceAttributes = map[string]string{"deployment.environment.name": "prod", "host.name": "h1", "service.name": "x", "process.pid": "1"}
		}, map[string]string{
			"deployment.environment.name": "prod", "host.name": "h1", "service.name": "pay", "process.pid": "42",
		}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			cfg := config(otlp.OffEndpoint)
			tc.change(&cfg)
			got := make(map[string]string)
			for _, a := range newResources(cfg, node).of(tc.process).Attributes() {
				got[string(a.Key)] = a.Value.String()
			}
			for key, want := range tc.want {
				if got[key] != want {
					t.Errorf("%s is %q, want %q", key, got[key], want)
				}
			}
		})
	}
}

func TestOutcomes(t *testing.T) {
	retryInfo, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	grpcError := func(c codes.Code) otlptest.Answer { return otlptest.Answer{Err: status.Error(c, "because")} }
	for _, tc := range []struct {
		what      string
		http      bool
		answers   []otlptest.Answer
		want      stats.Counts
		lastError string
		retries   uint64
	}{
		{"acknowledged", false, nil, stats.Counts{Exported: 3}, "", 0},
		{"unavailable once", false, []otlptest.Answer{grpcError(codes.Unavailable)}, stats.Counts{Exported: 3}, "Unavailable: because", 1},
		{"exhausted, with a time to come back", false, []otlptest.Answer{{Err: retryInfo.Err()}}, stats.Counts{Exported: 3}, "ResourceExhausted: slow down", 1},
		{"exhausted for good", false, []otlptest.Answer{grpcError(codes.ResourceExhausted)}, stats.Counts{RejectedByBackend: 3}, "ResourceExhausted: because", 0},
		{"unauthenticated once", false, []otlptest.Answer{grpcError(codes.Unauthenticated)}, stats.Counts{Exported: 3}, "Unauthenticated: because", 1},
		{"invalid", false, []otlptest.Answer{grpcError(codes.InvalidArgument)}, stats.Counts{RejectedByBackend: 3}, "InvalidArgument: because", 0},
		{"partial success", false, []otlptest.Answer{{Rejected: 2}}, stats.Counts{Exported: 1, RejectedByBackend: 2}, "too many", 0},
		{"a partial success that rejects more than there was", false, []otlptest.Answer{{Rejected: 9}}, stats.Counts{RejectedByBackend: 3}, "too many", 0},
		{"acknowledged over HTTP", true, nil, stats.Counts{Exported: 3}, "", 0},
		{"503 once", true, []otlptest.Answer{{Status: 503, Header: "Retry-After: 0"}}, stats.Counts{Exported: 3}, "HTTP 503 Service Unavailable", 1},
		{"429 once", true, []otlptest.Answer{{Status: 429}}, stats.Counts{Exported: 3}, "HTTP 429 Too Many Requests", 1},
		{"400", true, []otlptest.Answer{{Status: 400}}, stats.Counts{RejectedByBackend: 3}, "HTTP 400 Bad Request", 0},
		{"401 once", true, []otlptest.Answer{{Status: 401}}, stats.Counts{Exported: 3}, "HTTP 401 Unauthorized", 1},
		{"500", true, []otlptest.Answer{{Status: 500}}, stats.Counts{RejectedByBackend: 3}, "HTTP 500 Internal Server Error", 0},
		{"partial success over HTTP", true, []otlptest.Answer{{Rejected: 2}}, stats.Counts{Exported: 1, RejectedByBackend: 2}, "too many", 0},
	} {
		t.Run(tc.what, func(t *testing.T) {
			t.Parallel()
			b, cfg := otlptest.StartGRPC(t, tc.answers...), Config{}
			if tc.http {
				b = otlptest.StartHTTP(t, tc.answers...)
			}
			if cfg = config(mustParse(t, b.URL)); tc.http {
				cfg.Protocol = otlp.ProtocolHTTP
			}
			cfg.BatchSize, cfg.BatchDelay = 3, time.Minute // one request, however slow the machine
			p := newTestPipeline(t).start(cfg)
			p.SetNode(Node{})
			p.send(newSpan(1, "a"), newSpan(2, "b"), newSpan(3, "c"))
			for range len(tc.answers) + int(tc.retries) {
				<-b.Arrived
			}
			if left := p.shutdown(time.Minute); left != 0 {
				t.Errorf("%d spans are left", left)
			}
			p.want(tc.want)
			report, _ := p.Status()
			if report.LastError != tc.lastError || report.Retries != tc.retries {
				t.Errorf("last error %q, %d retries, want %q and %d", report.LastError, report.Retries, tc.lastError, tc.retries)
			}
			refused := tc.want.RejectedByBackend == 3 && tc.lastError != "too many" // that one is acknowledged
			if (report.State == StateRefusing) != refused || refused && !strings.Contains(report.Rejection, tc.lastError) {
				t.Errorf("it is %s, for %q", report.State, report.Rejection)
			}
			if n := strings.Count(p.log.String(), "level=WARN"); (n > 0) != (tc.lastError != "") {
				t.Errorf("the log has %d warnings:\n%s", n, p.log.String())
			}
		})
	}
}

func TestSpansWaitForTheNode(t *testing.T) {
	b := otlptest.StartGRPC(t)
	p := newTestPipeline(t).start(config(mustParse(t, b.URL)))
	p.send(newSpan(1, "a"))
	// The batch is due after 5 ms; give it 20 times that to go out by mistake.
	select {
	case <-b.Arrived:
		t.Fatal("a span went out before the node was known")
	case <-time.After(100 * time.Millisecond):
	}
	p.SetNode(Node{ID: "02ab"})
	<-b.Arrived
	p.shutdown(time.Minute)
	p.want(stats.Counts{Exported: 1})
}

func TestEndpointChangesWithoutLosingASpan(t *testing.T) {
	unavailable := slices.Repeat([]otlptest.Answer{{Err: status.Error(codes.Unavailable, "gone")}}, 1000)
	first, second := otlptest.StartGRPC(t, unavailable...), otlptest.StartGRPC(t)
	p := newTestPipeline(t).start(config(mustParse(t, first.URL)))
	p.SetNode(Node{})
	p.send(newSpan(1, "a"), newSpan(2, "b"))
	<-first.Arrived
	if err := p.Connect(config(mustParse(t, second.URL))); err != nil {
		t.Fatal(err)
	}
	<-second.Arrived
	if left := p.shutdown(time.Minute); left != 0 {
		t.Errorf("%d spans are left", left)
	}
	if got := received(second); len(got) != 2 {
		t.Errorf("the second endpoint has %v", got)
	}
	p.want(stats.Counts{Exported: 2})
}

func TestBadEndpointFilesChangeNothing(t *testing.T) {
	b := otlptest.StartGRPC(t)
	p := newTestPipeline(t).start(config(mustParse(t, b.URL)))
	p.SetNode(Node{})
	bad := config(mustParse(t, "https://localhost:1"))
	bad.CAFile = "/nonexistent/ca.pem"
	if err := p.Connect(bad); err == nil || !strings.Contains(err.Error(), bad.CAFile) {
		t.Errorf("got %v, want an error that names the file", err)
	}
	p.send(newSpan(1, "a"))
	<-b.Arrived
	p.shutdown(time.Minute)
	p.want(stats.Counts{Exported: 1})
}

func TestFullQueueIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := spooling(t, "")
		cfg.SpoolSize, cfg.QueueSize = 0, 10
		p := startSpooling(t, cfg, &fakeClient{answer: unavailable})
		p.number(0, 25)
		time.Sleep(time.Second)
		p.now("away", stats.Counts{Pending: 10, DroppedQueueFull: 15})
		const patience = 50 * time.Millisecond
		start := time.Now()
		if left := p.shutdown(patience); left != 10 {
			t.Errorf("%d spans are left, want 10", left)
		}
		if took := time.Since(start); took > patience {
			t.Errorf("shutdown with a dead endpoint took %v of the %v it had", took, patience)
		}
	})
}

// recorded returns n spans as the collector makes them of what lightningd sent.
func recorded(t testing.TB, n int) []*correlate.Span {
	t.Helper()
	startup, err := recording.Startup()
	if err != nil {
		t.Fatal(err)
	}
	xpay, err := recording.Xpay()
	if err != nil {
		t.Fatal(err)
	}
	datagrams := slices.Concat(startup, xpay)
	var decoder zipkin.Decoder
	var details cln.Reader
	c := correlate.New(correlate.Options{})
	spans := make([]*correlate.Span, 0, n+len(datagrams))
	for i := 0; len(spans) < n; i++ {
		s := &correlate.Span{Process: pay}
		if err := decoder.Decode(datagrams[i%len(datagrams)].Payload, &s.Span); err != nil {
			t.Fatal(err)
		}
		s.Detail = details.Of(s.Name, s)
		c.Add(s, time.Now())
		spans = append(spans, c.Ready()...)
	}
	return spans[:n]
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestDefaultQueueHasRoomForItsSpans(t *testing.T) {
	p := newTestPipeline(t)
	before := liveHeap()
	spans := recorded(t, DefaultQueueSize)
	list := make([]readOnlySpan, len(spans))
	for i, s := range spans {
		if !p.room.Take(s) {
			t.Fatalf("%d recorded spans have room, want %d", i, len(spans))
		}
		list[i] = readOnlySpan{in: s, out: &queued}
	}
	used, reserved := float64(liveHeap()-before), float64(p.room.Bytes())
	t.Logf("a span takes %.0f bytes, %.0f are reserved", used/DefaultQueueSize, reserved/DefaultQueueSize)
	if used > 1.1*reserved || used < 0.7*reserved {
		t.Errorf("%.0f bytes are reserved for %.0f", reserved, used)
	}
	for i := range list {
		p.room.Release(list[i].in)
	}
	if p.room.Bytes() != 0 {
		t.Errorf("with no span left %d bytes are reserved", p.room.Bytes())
	}
}

func TestRequestsStayBelowTheServersLimit(t *testing.T) {
	b := otlptest.StartGRPC(t)
	cfg := config(mustParse(t, b.URL))
	cfg.QueueSize, cfg.BatchSize, cfg.BatchDelay = 4000, 4000, time.Minute
	p := newTestPipeline(t).start(cfg)
	p.SetNode(Node{})
	var spans []*correlate.Span
	for i := range 4000 {
		spans = append(spans, newSpan(uint64(i+1), "jsonrpc", "id", strings.Repeat("é", 900)))
	}
	p.send(spans...)
	p.shutdown(time.Minute)
	p.want(stats.Counts{Exported: 4000})
	if got := received(b); len(got) != 4000 {
		t.Errorf("%d spans arrived", len(got))
	}
	if limit := 4 << 20; b.Largest() > limit || b.Largest() < limit/4 {
		t.Errorf("the largest request has %d bytes, a server takes %d", b.Largest(), limit)
	}
}

// The attributes of resources are sent once for each sender, and count.
func TestResourcesCountTowardsTheSizeOfARequest(t *testing.T) {
	r := otlptest.StartGRPC(t)
	cfg := config(mustParse(t, r.URL))
	cfg.BatchDelay = time.Minute
	cfg.ResourceAttributes = map[string]string{"large": strings.Repeat("x", 120<<10)}
	p := newTestPipeline(t).start(cfg)
	p.SetNode(Node{})
	for i := range 40 {
		s := newSpan(uint64(i+1), "a")
		s.Process = &process.Identity{PID: int32(i + 1), Name: "pay", Known: true}
		p.send(s)
	}
	p.shutdown(time.Minute)
	p.want(stats.Counts{Exported: 40})
	if largest := r.Largest(); largest > maxRequestBytes || largest < maxRequestBytes/2 {
		t.Errorf("the largest request has %d bytes", largest)
	}
}

// A spool of 1 MiB is allowed, and a batch of the default size can be larger.
func TestRequestsFitIntoASmallSpool(t *testing.T) {
	cfg := config(mustParse(t, "http://127.0.0.1:1"))
	cfg.QueueSize, cfg.BatchSize, cfg.BatchDelay = 4000, 2048, time.Minute
	cfg.SpoolDir, cfg.SpoolSize = t.TempDir(), 1
	p := newTestPipeline(t).start(cfg)
	p.SetNode(Node{})
	var spans []*correlate.Span
	for i := range 2048 {
		spans = append(spans, newSpan(uint64(i+1), "jsonrpc", "id", strings.Repeat("x", 900)))
	}
	p.send(spans...)
	if lost := p.shutdown(10 * time.Second); lost != 0 {
		t.Errorf("%d spans are lost", lost)
	}
	c := p.ledger.Counts()
	if c.Spooled < 500 || c.Spooled+c.DroppedSpoolFull != 2048 || c.Pending != 0 {
		t.Errorf("got %+v, want what fits on disk and the older ones dropped from it", c)
	}
	if strings.Contains(p.log.String(), "does not fit") {
		t.Errorf("the log is %q", p.log.String())
	}
}

func TestHangingEndpointIsGivenUpAfterTheTimeout(t *testing.T) {
	b := otlptest.StartGRPC(t, otlptest.Hang())
	cfg := config(mustParse(t, b.URL))
	cfg.Timeout = time.Second // enough for the second attempt, on a busy machine too
	p := newTestPipeline(t).start(cfg)
	p.SetNode(Node{})
	p.send(newSpan(1, "a"))
	<-b.Arrived
	<-b.Arrived
	p.shutdown(time.Minute)
	p.want(stats.Counts{Exported: 1})
	if report, _ := p.Status(); report.Retries == 0 || !strings.HasPrefix(report.LastError, "DeadlineExceeded") {
		t.Errorf("got %+v", report)
	}
}

func TestPlaintextToAnotherHostIsLoggedOnce(t *testing.T) {
	cfg := config(mustParse(t, "http://192.0.2.1:4317"))
	p := newTestPipeline(t).start(cfg)
	cfg.Headers = map[string]string{"authorization": "other"}
	if err := p.Connect(cfg); err != nil {
		t.Fatal(err)
	}
	if strings.Count(p.log.String(), "unencrypted") != 1 {
		t.Errorf("the log is %q", p.log.String())
	}
}

// What a request needed is not kept until the next one: after a flood of large spans
// there may be none for hours.
func TestNothingOfARequestStays(t *testing.T) {
	p := newTestPipeline(t)
	cfg := config(otlp.OffEndpoint)
	p.policy.Store(policyOf(cfg))
	if err := p.Start(cfg); err != nil {
		t.Fatal(err)
	}
	e, heap := p.exporter, func() int64 {
		runtime.GC()
		runtime.GC() // what is in pools outlives the first
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	export := func(spans, size int) {
		batch := make([]sdktrace.ReadOnlySpan, spans)
		for i := range batch {
			s := newSpan(uint64(i), "jsonrpc")
			for range 16 {
				s.Tags = append(s.Tags, zipkin.Tag{Key: "id", Value: strings.Repeat("x", size)})
			}
			p.room.Take(s)
			p.ledger.Book(stats.Counts{Received: 1, Accepted: 1, Pending: 1}, time.Now())
			batch[i] = newOutgoing(s)
		}
		if err := e.ExportSpans(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	p.SetNode(Node{})
	export(1000, 1) // what is used again is there
	before := heap()
	export(1000, 100)
	if kept := heap() - before; kept > 200_000 {
		t.Errorf("%d bytes stay of 1,000 spans with 1.6 kB of tags each", kept)
	} else {
		t.Logf("%d bytes stay", kept)
	}
}

// Room is given back with each request, and so is the memory, though the SDK holds on to
// the whole batch.
func TestSpansAreFreedWithTheirRequest(t *testing.T) {
	p := newTestPipeline(t)
	cfg := config(otlp.OffEndpoint)
	p.policy.Store(policyOf(cfg))
	held := make([]int64, 0, 2) // spans that are referred to, and those that are thought to be, after each request
	var batch []sdktrace.ReadOnlySpan
	p.options.Yield = func(time.Duration) {
		var referred int64
		for _, s := range batch {
			if s.(*readOnlySpan).in != nil {
				referred++
			}
		}
		held = append(held, referred, p.room.Spans())
	}
	if err := p.Start(cfg); err != nil {
		t.Fatal(err)
	}
	p.SetNode(Node{})
	for id := range 2 {
		s := newSpan(uint64(id), strings.Repeat("x", maxRequestBytes))
		if !p.room.Take(s) {
			t.Fatal("no room")
		}
		p.ledger.Book(stats.Counts{Received: 1, Accepted: 1, Pending: 1}, time.Now())
		batch = append(batch, newOutgoing(s))
	}
	if err := p.exporter.ExportSpans(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if want := []int64{1, 1, 0, 0}; !slices.Equal(held, want) {
		t.Errorf("after each request are held, and thought to be held: %d, want %d", held, want)
	}
}

func BenchmarkExport(b *testing.B) {
	p := NewPipeline(Options{
		Ledger: new(stats.Ledger), Room: memory.NewRoom(DefaultQueueSize, SpanOverhead), Policy: func() *policy.Policy { return nil },
		Logger: slog.New(slog.DiscardHandler), Version: "bench",
	})
	if err := p.Start(config(otlp.OffEndpoint)); err != nil {
		b.Fatal(err)
	}
	s := newSpan(1, "jsonrpc", "id", "cli:pay#1/cln:pay#2/pay:x#3", "error", "false")
	e := p.exporter
	spans := []sdktrace.ReadOnlySpan{newOutgoing(s)}
	b.ReportAllocs()
	for b.Loop() {
		e.prepare(spans)
		e.forget()
	}
	p.Shutdown(context.Background())
}
