package export

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/payments"
	"clntrace/collector/policy"
	"clntrace/collector/stats"
)

// described is what spans leave as under p.
func described(t *testing.T, spans []*correlate.Span, p *policy.Policy) *coltracepb.ExportTraceServiceRequest {
	t.Helper()
	d, resources := newDescriptions(databaseSystem("sqlite3")), newResources(Config{}, Node{ID: "02ab"})
	scope := instrumentation.Scope{Name: "clntrace"}
	d.begin(p)
	var list []sdktrace.ReadOnlySpan
	for _, s := range spans {
		out := &readOnlySpan{in: s, out: &outgoing{scope: &scope, resource: resources.of(s.Process)}}
		d.describe(out.in, out.out)
		list = append(list, out)
	}
	return sent(t, transform(list).batch)
}

// fact is an attribute as package payments makes it.
func fact(t *testing.T, a attribute.KeyValue) payments.Attribute {
	t.Helper()
	class, ok := payments.ClassOf(a.Key)
	if !ok {
		t.Fatalf("nothing of payments has the key %s", a.Key)
	}
	return payments.Attribute{KeyValue: a, Class: class}
}

// paying returns spans that tell of payments and forwards; added says which of them are
// made of notifications alone.
func paying(t *testing.T) (spans []*correlate.Span, added map[trace.SpanID]bool) {
	t.Helper()
	hash := attribute.String("cln.payment.hash", "00ff")
	part := newSpan(101, "jsonrpc", "id", "cli:xpay#1/cln-xpay:injectpaymentonion#2", "error", "true")
	part.Detail, part.Request = "injectpaymentonion", "cli:xpay#1"
	part.Payment = (&payments.PartResult{
		Part: cln.Part{Hash: cln.Hash{1}, Group: 7, Number: 2}, ErrorType: "failed", Reason: "no way over 103x1x0 and 02ab",
		AmountMsat: 5, FeeMsat: 6, Hops: 1, Route: []cln.Hop{{Node: cln.NodeID{2}, Channel: 3, Direction: 1}},
		FailedHop: 1, FailedNode: cln.NodeID{2}, FailedChannel: 3,
	}).Facts()
	root := newSpan(102, "xpay", "error", "true")
	root.Synthetic, root.Detail, root.Request = true, "xpay", "cli:xpay#1"
	root.Payment = &payments.Facts{Attributes: []payments.Attribute{fact(t, attribute.Int("cln.payment.parts", 1)), fact(t, hash)}}
	root.Links = []correlate.Link{
		{Relation: correlate.Encloses, TraceID: trace.TraceID{3}, SpanID: trace.SpanID{4}},
		{Relation: correlate.ForPayment, TraceID: trace.TraceID{5}, SpanID: trace.SpanID{6}},
	}
	forward := newSpan(103, "forward", "error", "true")
	forward.Payment = &payments.Facts{
		Kind: payments.KindForward, ErrorType: "mpp_timeout", Approximate: true, Attributes: []payments.Attribute{
			fact(t, attribute.String("cln.forward.status", "failed")), fact(t, hash), fact(t, attribute.String("cln.forward.in_channel", "1x1x1")),
			fact(t, attribute.Int64("cln.forward.in_msat", 9)), fact(t, attribute.String("error.type", "mpp_timeout")),
		},
	}
	accept := newSpan(104, "forward accept")
	accept.Payment = &payments.Facts{Kind: payments.KindAccept}
	added = make(map[trace.SpanID]bool)
	for _, s := range []*correlate.Span{forward, accept} {
		s.Synthetic, added[s.ID] = true, true
	}
	return []*correlate.Span{part, root, forward, accept}, added
}

// unlike returns spans of which a policy hides a detail, and some that only look so.
func unlike() []*correlate.Span {
	command := newSpan(201, "lightningd/jsonrpc", "method", "getinfo")
	command.Detail = "getinfo"
	backend := newSpan(202, "plugin/bitcoind", "method", "getchaininfo")
	backend.Detail = "getchaininfo"
	same := newSpan(203, "jsonrpc", "id", "cli:jsonrpc#1")
	same.Detail, same.Request = "jsonrpc", "cli:jsonrpc#1"
	root := newSpan(204, "request") // of one whose method cannot be read
	root.Synthetic = true
	return []*correlate.Span{
		command, backend, same, root, statement(205, "SELECT 1"), newSpan(206, "db_exec_prepared", "query", ""),
		newSpan(207, "xpay/payment", "payment_hash", "00ff", "amount", "5"), newSpan(208, "x", "query", "1", "error", "perhaps"),
	}
}

// What was spooled under a policy that shows everything leaves as if it had come only
// under the one of now.
func TestSpooledSpansLeaveAsNewOnesDo(t *testing.T) {
	extra, added := paying(t)
	spans := slices.Concat(recorded(t, 1500), unusual()[1:], extra, unlike()) // the first has facts that do not exist
	open := policy.New(policy.Config{SampleRatio: 1, Payments: payments.All})
	for _, mode := range []payments.Mode{payments.Off, payments.Local, payments.Outcomes, payments.All} {
		for _, tags := range []string{"", "query", "method", "id", "payment_hash", "amount", "channel", "node", "error", "query,id,method,node", "method,payment_hash,channel"} {
			t.Run(fmt.Sprint(mode, "/", tags), func(t *testing.T) {
				p := policy.New(policy.Config{SampleRatio: 1, Payments: mode, RedactTags: strings.Split(tags, ",")})
				got := described(t, spans, open)
				got.ResourceSpans = redact(got.ResourceSpans, p)
				same(t, got, described(t, live(spans, added, mode), p))
				again := proto.CloneOf(got)
				again.ResourceSpans = redact(again.ResourceSpans, p)
				same(t, again, got)
			})
		}
	}
	if open.HoldsBack() {
		t.Error("the policy that shows everything holds something back")
	}
}

// live is what there is of spans if they come in that mode.
func live(spans []*correlate.Span, added map[trace.SpanID]bool, mode payments.Mode) (list []*correlate.Span) {
	if mode >= payments.Outcomes {
		return spans
	}
	for _, s := range spans {
		if added[s.ID] {
			continue
		}
		s = new(*s)
		s.Links = slices.DeleteFunc(slices.Clone(s.Links), func(l correlate.Link) bool { return l.Relation == correlate.ForPayment })
		list = append(list, s)
	}
	return list
}

// same compares requests.
func same(t *testing.T, got, want *coltracepb.ExportTraceServiceRequest) {
	t.Helper()
	if proto.Equal(got, want) {
		return
	}
	a, b := flat(got), flat(want)
	for i := range min(len(a), len(b)) {
		if !proto.Equal(a[i], b[i]) {
			t.Fatalf("got  %v\nwant %v", a[i], b[i])
		}
	}
	t.Fatalf("%d spans, want %d, or resources differ", len(a), len(b))
}

func flat(r *coltracepb.ExportTraceServiceRequest) (list []*tracepb.Span) {
	for _, r := range r.GetResourceSpans() {
		for _, scope := range r.GetScopeSpans() {
			list = append(list, scope.GetSpans()...)
		}
	}
	return list
}

// What may not leave any more is counted, and the rest is sent and shrunk as ever.
func TestSpooledSpansThatMayNotLeaveAreFiltered(t *testing.T) {
	withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
		p.policy.Store(policy.New(policy.Config{SampleRatio: 1, Payments: payments.All}))
		extra, _ := paying(t)
		p.send(extra...)     // one batch
		p.send(extra[2:]...) // one of which nothing may leave
		time.Sleep(10 * time.Second)
		p.now("away", stats.Counts{Spooled: 6})
		p.policy.Store(policy.New(policy.Config{SampleRatio: 1, RedactTags: []string{"id"}}))
		time.Sleep(10 * time.Second)
		p.now("still away", stats.Counts{Spooled: 4, Filtered: 2}) // the oldest is tried
		f.set(func(ctx context.Context, _ []string) error { return acknowledge(ctx, nil) })
		time.Sleep(10 * time.Second)
		p.now("back", stats.Counts{Exported: 2, Filtered: 4})
		if got := f.names(); !slices.Equal(got, []string{"jsonrpc", policy.Redacted}) {
			t.Errorf("arrived %q", got)
		}
		if left := spoolFiles(t, cfg.SpoolDir); len(left) != 0 {
			t.Errorf("left behind: %q", left)
		}
		p.shutdown(time.Second)
	})
}

// So is a batch that waits in memory, because there is no spool.
func TestWhatWaitsInMemoryIsRedacted(t *testing.T) {
	withoutSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
		p.policy.Store(policy.New(policy.Config{SampleRatio: 1, Payments: payments.All}))
		extra, _ := paying(t)
		p.send(append(extra, statement(1, "SELECT 1"))...)
		time.Sleep(10 * time.Second)
		p.now("away", stats.Counts{Pending: 5})
		p.policy.Store(policy.New(policy.Config{SampleRatio: 1, RedactTags: []string{"id", "query"}}))
		f.set(func(ctx context.Context, _ []string) error { return acknowledge(ctx, nil) })
		time.Sleep(10 * time.Second)
		p.now("back", stats.Counts{Exported: 3, Filtered: 2})
		if got := f.names(); !slices.Equal(got, []string{"jsonrpc", policy.Redacted, "db_query_prepared"}) {
			t.Errorf("arrived %q", got)
		}
		p.shutdown(time.Second)
	})
}

// An attempt that began before something was hidden does not go on.
func TestAttemptEndsWhenThePolicyChanges(t *testing.T) {
	withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
		p.send(statement(1, "SELECT 1"))
		time.Sleep(10 * time.Second)
		p.now("away", stats.Counts{Spooled: 1})
		late := make(chan struct{})
		f.set(func(ctx context.Context, _ []string) error { // it takes it, but not yet
			select {
			case <-late:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		time.Sleep(10 * time.Second)
		p.policy.Store(policy.New(policy.Config{SampleRatio: 1, RedactTags: []string{"query"}}))
		p.PolicyChanged()
		synctest.Wait()
		close(late)
		time.Sleep(10 * time.Second)
		p.now("back", stats.Counts{Exported: 1})
		if got := f.names(); !slices.Equal(got, []string{"db_query_prepared"}) {
			t.Errorf("arrived %q", got)
		}
		p.shutdown(time.Second)
	})
}
