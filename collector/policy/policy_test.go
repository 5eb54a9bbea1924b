package policy

import (
	"encoding/binary"
	"fmt"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/correlate"
	"clntrace/collector/payments"
	"clntrace/collector/zipkin"
)

func newSpan(id uint64, name string) *correlate.Span {
	s := &correlate.Span{Span: zipkin.Span{Name: name, ID: trace.SpanID{1}}}
	binary.BigEndian.PutUint64(s.TraceID[8:], id*0x9e3779b97f4a7c15) // spread as random ids are
	return s
}

func TestVerdict(t *testing.T) {
	all := Config{SampleRatio: 1}
	off, none, drop := all, all, all
	off.Off, none.SampleRatio, drop.DropSpans = true, 0, []string{"db_*", "extend_tip"}
	for _, tc := range []struct {
		what, span string
		policy     *Policy
		want       Verdict
	}{
		{"no policy", "a", nil, Leaves},
		{"all", "a", New(all), Leaves},
		{"off", "a", New(off), Filtered},
		{"no trace", "a", New(none), SampledOut},
		{"pattern with a star", "db_exec_prepared", New(drop), Filtered},
		{"a star is not in front", "xdb_", New(drop), Leaves},
		{"whole name", "extend_tip", New(drop), Filtered},
		{"more than the name", "extend_tip2", New(drop), Leaves},
	} {
		if got := tc.policy.Verdict(newSpan(1, tc.span)); got != tc.want {
			t.Errorf("%s: %s gets %d, want %d", tc.what, tc.span, got, tc.want)
		}
	}
}

func TestRootIsFilteredWithItsRequests(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		want    Verdict
	}{{"jsonrpc", Filtered}, {"json*", Filtered}, {"xpay", Filtered}, {"lightningd/jsonrpc", Leaves}} {
		root := newSpan(1, "xpay")
		root.Synthetic = true
		p := New(Config{SampleRatio: 1, DropSpans: []string{tc.pattern}})
		if got := p.Verdict(root); got != tc.want {
			t.Errorf("with %s dropped the root gets %d, want %d", tc.pattern, got, tc.want)
		}
	}
}

func TestSamplingKeepsTracesWhole(t *testing.T) {
	p := New(Config{SampleRatio: 0.3})
	kept := 0
	const traces = 10000
	for i := range traces {
		a, b := newSpan(uint64(i+1), "a"), newSpan(uint64(i+1), "b")
		b.ID = trace.SpanID{2}
		if p.Verdict(a) != p.Verdict(b) {
			t.Fatalf("trace %s is cut in two", a.TraceID)
		}
		if p.Verdict(a) == Leaves {
			kept++
		}
	}
	if share := float64(kept) / traces; share < 0.27 || share > 0.33 {
		t.Errorf("kept %.3f of the traces, want 0.3", share)
	}
}

func TestRedactionReachesWhatIsDerived(t *testing.T) {
	p := New(Config{SampleRatio: 1, RedactTags: []string{"id", "query", "method"}})
	const secret = "s3cret"
	for _, name := range []string{"jsonrpc", "db_exec_prepared", "lightningd/jsonrpc", "plugin/bitcoind"} {
		s := newSpan(1, name)
		s.Detail = secret
		if got := p.Detail(s); got != Redacted {
			t.Errorf("the detail of %s is %q", name, got)
		}
		if got := p.Name(s); got != name {
			t.Errorf("the name %s is shown as %q", name, got)
		}
	}
	root := newSpan(1, secret)
	root.Synthetic, root.Detail = true, secret
	if p.Name(root) != Redacted || p.Detail(root) != Redacted {
		t.Errorf("the root is %q, %q", p.Name(root), p.Detail(root))
	}
	if got := p.Show("step", "9"); got != "9" {
		t.Errorf("a tag that is not redacted is shown as %q", got)
	}
}

// What statistics and metrics have from before is hidden with the tag that it follows
// from, and nothing else is.
func TestHides(t *testing.T) {
	for _, tc := range []struct{ span, detail, tag string }{
		{"jsonrpc", "getroutes", "id"},
		{"request", "xpay", "id"},
		{"lightningd/jsonrpc", "getroutes", "method"},
		{"plugin/bitcoind", "getchaininfo", "method"},
		{"db_exec_prepared", "UPDATE channels", "query"},
		{"forward", "103x1x0 settled", "channel"},
		{"forward downstream", "settled", ""},
		{"payment", "success", ""},
		{"payment part", "[redacted] success", ""},
		{"jsonrpc", "[redacted]", ""},
		{"extend_tip", "", ""},
	} {
		for _, tag := range []string{"id", "method", "query", "channel", "payment_hash"} {
			if got := New(Config{SampleRatio: 1, RedactTags: []string{tag}}).Hides(tc.span, tc.detail); got != (tag == tc.tag) {
				t.Errorf("%s %s with %s redacted: %v", tc.span, tc.detail, tag, got)
			}
		}
		if New(Config{SampleRatio: 1}).Hides(tc.span, tc.detail) || (*Policy)(nil).Hides(tc.span, tc.detail) {
			t.Errorf("%s %s is hidden though nothing is redacted", tc.span, tc.detail)
		}
	}
}

func TestNames(t *testing.T) {
	semantic, asSent := New(Config{SampleRatio: 1}), New(Config{SampleRatio: 1, NamesAsSent: true})
	hidden := New(Config{SampleRatio: 1, RedactTags: []string{"id", "query", "method"}})
	for _, tc := range []struct{ span, detail, want string }{
		{"jsonrpc", "getroutes", "getroutes"},
		{"lightningd/jsonrpc", "getroutes", "getroutes"},
		{"plugin/bitcoind", "getchaininfo", "getchaininfo"},
		{"db_exec_prepared", "UPDATE channels", "UPDATE channels"},
		{"jsonrpc", "", "jsonrpc"},
		{"extend_tip", "", "extend_tip"},
	} {
		s := newSpan(1, tc.span)
		s.Detail = tc.detail
		if got := semantic.Name(s); got != tc.want {
			t.Errorf("%s %s leaves as %s, want %s", tc.span, tc.detail, got, tc.want)
		}
		for _, p := range []*Policy{asSent, hidden} {
			if got := p.Name(s); got != tc.span {
				t.Errorf("%s %s leaves as %s, want the name as sent", tc.span, tc.detail, got)
			}
		}
	}
}

// What is said of a payment, in each mode, on the node, and with tags redacted.
func TestFacts(t *testing.T) {
	facts := &payments.Facts{
		Kind: payments.KindPart, ErrorType: "failed", Reason: "no way over 103x1x0",
		Attributes: []payments.Attribute{
			{KeyValue: attribute.Int("hops", 2), Class: payments.Outcome}, {KeyValue: attribute.String("hash", "ab"), Class: payments.Hash},
			{KeyValue: attribute.Int64("msat", 7), Class: payments.Amount}, {KeyValue: attribute.String("route", "103x1x0"), Class: payments.Route},
			{KeyValue: attribute.String("node", "02ab"), Class: payments.Peer},
		},
	}
	for _, tt := range []struct {
		mode   payments.Mode
		redact []string
		want   string
		reason string
	}{
		{payments.Off, nil, "", ""},
		{payments.Local, nil, "", ""},
		{payments.Outcomes, nil, "hops=2 ", "failed"},
		{payments.All, nil, "hops=2 hash=ab msat=7 route=103x1x0 node=02ab ", "no way over 103x1x0"},
		{payments.All, []string{"payment_hash", "amount"}, "hops=2 hash=[redacted] msat=[redacted] route=103x1x0 node=02ab ", "failed"},
		{payments.All, []string{"channel", "node"}, "hops=2 hash=ab msat=7 route=[redacted] node=[redacted] ", "failed"},
	} {
		p := New(Config{SampleRatio: 1, Payments: tt.mode, RedactTags: tt.redact})
		shown := ""
		list, reason := p.AppendFacts(nil, facts)
		for _, a := range list {
			shown += fmt.Sprintf("%s=%s ", a.Key, a.Value.String())
		}
		if shown != tt.want || reason != tt.reason {
			t.Errorf("%v, %v redacted: %s, %s", tt.mode, tt.redact, shown, reason)
		}
		if own, _ := p.OnNode().AppendFacts(nil, facts); (len(own) == 5) != (tt.mode > payments.Off) {
			t.Errorf("%v: %d attributes on the node", tt.mode, len(own))
		}
	}
	if off, on := New(Config{}), New(Config{Payments: payments.Local}); !off.HidesMore(on) || on.HidesMore(off) {
		t.Error("what was recorded of payments would stay when they are off")
	}
}
