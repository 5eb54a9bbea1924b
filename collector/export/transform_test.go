package export

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"clntrace/collector/correlate"
	"clntrace/collector/payments"
	"clntrace/collector/policy"
	"clntrace/collector/process"
	"clntrace/collector/stats"
)

// capturing keeps the batch that the SDK's exporter uploads.
type capturing struct {
	otlptrace.Client
	batch []*tracepb.ResourceSpans
}

func (c *capturing) Start(context.Context) error { return nil }

func (c *capturing) UploadTraces(_ context.Context, batch []*tracepb.ResourceSpans) error {
	c.batch = batch
	return nil
}

// sent returns what a receiver gets of a batch, ordered by resource.
func sent(t testing.TB, batch []*tracepb.ResourceSpans) *coltracepb.ExportTraceServiceRequest {
	t.Helper()
	body, err := proto.Marshal(&coltracepb.ExportTraceServiceRequest{ResourceSpans: batch})
	if err != nil {
		t.Fatal(err)
	}
	got := new(coltracepb.ExportTraceServiceRequest)
	if err := proto.Unmarshal(body, got); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got.ResourceSpans, func(a, b *tracepb.ResourceSpans) int {
		return strings.Compare(a.GetResource().String(), b.GetResource().String())
	})
	return got
}

// unusual returns spans with everything that a span can have.
func unusual() (spans []*correlate.Span) {
	failed := newSpan(1, "xpay/payment", "error", "true", "partid", "1")
	failed.Payment = &payments.Facts{ErrorType: "boom", Approximate: true, Attributes: []payments.Attribute{
		{KeyValue: attribute.StringSlice("hops", []string{"a", "", "ünï"}), Class: payments.Outcome},
		{KeyValue: attribute.StringSlice("none", nil), Class: payments.Outcome},
		{KeyValue: attribute.Int64("negative", -1), Class: payments.Outcome},
		{KeyValue: attribute.Int64("zero", 0), Class: payments.Outcome},
		{KeyValue: attribute.Float64("float", 1.5), Class: payments.Outcome},
		{KeyValue: attribute.Bool("false", false), Class: payments.Outcome},
	}}
	linked := newSpan(2, "jsonrpc", "id", strings.Repeat("x", 3000))
	linked.ParentID = trace.SpanID{9}
	linked.Paired, linked.Request, linked.SentTraceID, linked.SentID = true, "cli:x#1", trace.TraceID{1}, trace.SpanID{2}
	linked.Links = []correlate.Link{{Relation: correlate.ServedBy, TraceID: trace.TraceID{3}, SpanID: trace.SpanID{4}}}
	cut := newSpan(3, "a", "key", "")
	cut.Truncated, cut.ParentID = true, trace.SpanID{9}
	root := newSpan(4, "pay")
	root.Synthetic, root.Detail, root.Request, root.Incomplete = true, "pay", "cli:pay#1", true
	block := newSpan(5, "extend_tip")
	block.Height, block.Process = 800000, &process.Identity{Name: "lightningd"}
	again := newSpan(6, "extend_tip") // of a process that looks the same from outside
	again.Process = &process.Identity{Name: "lightningd", StartTime: 1}
	moved := newSpan(7, "lightningd/jsonrpc", "method", "x")
	moved.Detail, moved.SentTraceID = "x", trace.TraceID{7}
	return append(spans, failed, linked, cut, root, block, again, moved, newSpan(8, "no tags"), newSpan(9, ""))
}

// What arrives must be what the SDK's exporter would have sent.
func TestTransformSendsWhatTheSDKWould(t *testing.T) {
	p := policy.New(policy.Config{SampleRatio: 1, Payments: payments.All})
	d, resources := newDescriptions(databaseSystem("sqlite3")), newResources(Config{}, Node{ID: "02ab", Alias: "ünï"})
	scope := instrumentation.Scope{Name: "clntrace", Version: "test", SchemaURL: "https://example.com"}
	spans := append(recorded(t, 1500), unusual()...)
	for range 2 { // the second time most are known
		d.begin(p)
		var list []sdktrace.ReadOnlySpan
		for _, s := range spans {
			out := &readOnlySpan{in: s, out: &outgoing{scope: &scope, resource: resources.of(s.Process)}}
			d.describe(out.in, out.out)
			list = append(list, out)
		}
		list = append(list, newOutgoing(newSpan(10, "not filled in")))
		sdk := new(capturing)
		e := otlptrace.NewUnstarted(sdk)
		if err := e.ExportSpans(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		want, got := sent(t, sdk.batch), sent(t, transform(list).batch)
		if len(got.ResourceSpans) != len(want.ResourceSpans) {
			t.Fatalf("%d resources, want %d", len(got.ResourceSpans), len(want.ResourceSpans))
		}
		for i, r := range want.ResourceSpans {
			if proto.Equal(got.ResourceSpans[i], r) {
				continue
			}
			for j, s := range r.ScopeSpans[0].Spans {
				if other := got.ResourceSpans[i].ScopeSpans[0].Spans[j]; !proto.Equal(other, s) {
					t.Fatalf("got  %v\nwant %v", other, s)
				}
			}
			t.Fatalf("resource %d differs", i)
		}
		d.end()
	}
}

func TestTextThatIsNotUTF8CostsNoBatch(t *testing.T) {
	s := newOutgoing(newSpan(1, "a"))
	s.out.encoded = appendAttributes(nil, fieldOfSpan, []attribute.KeyValue{
		attribute.String("key\xff", "\xffvalue"), attribute.StringSlice("list", []string{"\xff"}),
	})
	for _, a := range sent(t, transform([]sdktrace.ReadOnlySpan{s}).batch).ResourceSpans[0].ScopeSpans[0].Spans[0].Attributes {
		if !utf8.ValidString(a.String()) || !strings.Contains(a.String(), "\ufffd") {
			t.Errorf("got %q", a)
		}
	}
}

// A request is made in the memory of one that was sent, and nothing of that is left.
func TestRequestsAreUsedAgain(t *testing.T) {
	of := func(list ...*correlate.Span) (spans []sdktrace.ReadOnlySpan) {
		d := newDescriptions(attribute.KeyValue{})
		d.begin(nil)
		for _, s := range list {
			out := newOutgoing(s)
			d.describe(out.in, out.out)
			spans = append(spans, out)
		}
		return spans
	}
	all, few := of(unusual()...), of(newSpan(8, "no tags"), newSpan(9, "x"))
	want := sent(t, transform(few).batch)
	for range 3 {
		r := transform(all)
		r.release()
		if got := sent(t, transform(few).batch); !proto.Equal(got, want) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
	}
}

// The memory of a request that is still being sent is not used for another one.
func TestRequestIsNotUsedAgainWhileItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		f := &fakeClient{answer: func(context.Context, []string) error { <-answer; return nil }}
		p := startSpooling(t, spooling(t, t.TempDir()), f)
		p.delivery.memoryShort = func() bool { return true } // so that nobody waits for the answer
		var done atomic.Int64
		batch := transform([]sdktrace.ReadOnlySpan{newOutgoing(newSpan(1, "a"))}).batch
		p.ledger.Book(stats.Counts{Received: 2, Accepted: 2, Pending: 2}, time.Now())
		p.delivery.dispatch(batch, p.policy.Load(), func() { done.Add(1) })
		if done.Load() != 0 {
			t.Error("done while the request is being sent")
		}
		p.delivery.dispatch(batch, p.policy.Load(), func() { done.Add(10) }) // goes to the spool
		if done.Load() != 10 {
			t.Errorf("done %d, want 10: what is in the spool is needed no more", done.Load())
		}
		close(answer)
		synctest.Wait()
		if done.Load() != 11 {
			t.Errorf("done %d, want 11", done.Load())
		}
		p.shutdown(time.Second)
	})
}
