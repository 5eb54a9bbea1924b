package collector

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/memory"
	"clntrace/collector/payments"
	"clntrace/collector/policy"
	"clntrace/collector/process"
	"clntrace/collector/recorder"
	"clntrace/collector/recording"
	"clntrace/collector/stats"
	"clntrace/collector/zipkin"
)

// backend is a span of lightningd about a request to the bitcoin backend with that
// method, of a trace of its own.
func backend(id int, method string) string {
	return fmt.Sprintf(`[{"id":"%016x","name":"plugin/bitcoind","timestamp":1795324398371053,"duration":501,`+
		`"localEndpoint":{"serviceName":"lightningd"},"tags":{"method":"%s"},"traceId":"%032x"}]`, id, method, id)
}

// recorded is everything that is kept, as it can be shown.
func (n *node) recorded(t *testing.T) string {
	t.Helper()
	answer, err := n.Traces(recorder.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range answer.(recorder.List).Traces {
		one, err := n.Traces(recorder.Query{ID: s.TraceID})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%+v\n%+v\n", s, one.(recorder.Single).Trace)
	}
	return b.String()
}

// TestRecorderKeepsWhatDoesNotLeave shows that a node without a backend, or one that
// exports a share, can look at all of its traces.
func TestRecorderKeepsWhatDoesNotLeave(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"off":     func(*Config) {},
		"sampled": func(c *Config) { c.SampleRatio = 0 },
		"dropped": func(c *Config) { c.DropSpans = []string{"*"} },
	} {
		t.Run(name, func(t *testing.T) {
			n := open(t, Options{})
			n.start(t, "off", change)
			n.send(t, backend(1, "getinfo"))
			if got := n.recorded(t); !strings.Contains(got, "getinfo") {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestRecorderHidesWhatIsRedacted looks for a value before its tag is redacted, after
// that, and in what comes then.
func TestRecorderHidesWhatIsRedacted(t *testing.T) {
	const secret = "s3cret"
	n := open(t, Options{})
	n.start(t, "off", nil)
	n.send(t, backend(1, secret))
	if got := n.recorded(t); !strings.Contains(got, secret) {
		t.Fatalf("it is not recorded at all: %s", got)
	}
	cfg := n.cfg
	cfg.RedactTags = []string{"method"}
	if err := n.Reconfigure(cfg, nil); err != nil {
		t.Fatal(err)
	}
	if got := n.recorded(t); got != "" {
		t.Errorf("what was recorded before is still there: %s", got)
	}
	n.send(t, backend(2, secret))
	if got := n.recorded(t); strings.Contains(got, secret) || !strings.Contains(got, "[redacted]") {
		t.Errorf("got %s", got)
	}
}

// Traces that are kept give way to spans that wait, except for what is there by default.
func TestTracesGiveWayToSpansThatWait(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct{ size, waiting, want int64 }{
		{32, 0, 32}, {32, 10, 32}, {32, 20, 24}, {16, 20, 16}, {16, 30, 14}, {4, 30, 4},
	} {
		c := &Collector{recorderSize: tc.size * mib, room: memory.NewRoom(1000, 0)}
		for range tc.waiting {
			if s := (&correlate.Span{Span: zipkin.Span{Name: strings.Repeat("x", mib)}}); !c.room.Take(s) {
				break // it is full
			}
		}
		if got := (c.roomForTraces() + mib - 1) / mib; got != tc.want {
			t.Errorf("of %d MiB with %d MiB of spans that wait there are %d, want %d", tc.size, tc.waiting, got, tc.want)
		}
	}
}

func TestNoRecorder(t *testing.T) {
	n := open(t, Options{})
	n.start(t, "off", func(c *Config) { c.RecorderSize = 0 })
	n.send(t, backend(1, "getinfo"))
	const want = "no trace is kept, because clntrace-recorder-size is 0"
	if _, err := n.Traces(recorder.Query{}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if ops := n.Stats(stats.Query{Limit: 1}).Operations; len(ops) != 1 || ops[0].Slowest != nil {
		t.Errorf("got %+v", ops)
	}
}

// TestSlowestOfOperations shows that the slowest span of each operation of a payment
// can be looked at.
func TestSlowestOfOperations(t *testing.T) {
	recorded, err := recording.Xpay()
	if err != nil {
		t.Fatal(err)
	}
	n := open(t, Options{})
	n.start(t, "off", nil)
	for _, d := range recorded {
		n.send(t, string(d.Payload))
	}
	if err := n.Shutdown(t.Context()); err != nil { // so that nothing waits any more
		t.Fatal(err)
	}
	for _, o := range n.Stats(stats.Query{Limit: 1000}).Operations {
		if o.Slowest == nil {
			t.Errorf("%s %s %s has none", o.Process, o.Span, o.Detail)
			continue
		}
		one, err := n.Traces(recorder.Query{ID: o.Slowest.TraceID})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		tr := one.(recorder.Single).Trace
		for _, s := range tr.Spans {
			longest := max(s.LongestUS, s.DurationUS)
			if s.Count > 1 {
				longest = s.LongestUS
			}
			found = found || s.Span == o.Span && s.Detail == o.Detail && uint64(longest) == o.MaxUS
		}
		if !found {
			t.Errorf("%+v is not in its trace: %+v", o, tr)
		}
	}
}

// TestOpenRequestIsListed sends what a payment has sent whose first part failed, and
// that waits for its second one.
func TestOpenRequestIsListed(t *testing.T) {
	n := open(t, Options{Lightningd: os.Getpid()}) // whose plugin is the same process
	n.start(t, "off", func(c *Config) { c.RedactTags = []string{"method"} })
	now := time.Now().UnixMicro()
	request := `[{"id":"00000000000000b1","name":"jsonrpc","timestamp":%d,"duration":400,"localEndpoint":{"serviceName":"lightningd"},` +
		`"tags":{"id":"cli:xpay#1/cln:xpay#2/cln-xpay:injectpaymentonion#1", "error":"true"},"traceId":"000000000000000000000000000000b1"}]`
	begun := `[{"id":"00000000000000b2","name":"lightningd/jsonrpc","timestamp":%d,"duration":50,"localEndpoint":{"serviceName":"lightningd"},` +
		`"tags":{"method":"injectpaymentonion"},"traceId":"000000000000000000000000000000b2"}]`
	n.send(t, fmt.Sprintf(request, now), fmt.Sprintf(begun, now+700))
	answer, err := n.Traces(recorder.Query{Sort: recorder.SortOpen, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	list := answer.(recorder.List).Traces
	if len(list) != 1 || list[0].Detail != "xpay" || list[0].Status != recorder.StatusOpen || list[0].WaitsFor != "[redacted]" {
		t.Errorf("got %+v", list)
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if answer, err := n.Traces(recorder.Query{Sort: recorder.SortOpen, Limit: 10}); err != nil || len(answer.(recorder.List).Traces) != 0 {
		t.Errorf("after the end: %+v, %v", answer, err)
	}
}

// TestForwardIsRecorded tells of a forward that failed, which nothing is exported of by
// default, and looks for it while it is open and then.
func TestForwardIsRecorded(t *testing.T) {
	for name, tc := range map[string]struct {
		mode   payments.Mode
		redact []string
		shown  string // part of what is shown of the channels; empty: nothing is shown at all
	}{
		"local":    {payments.Local, nil, "103x1x0"},
		"redacted": {payments.Local, []string{string(payments.Route), string(payments.Hash)}, "[redacted]"},
		"off":      {payments.Off, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := open(t, Options{Notified: true})
			n.start(t, "off", func(c *Config) { c.Payments, c.RedactTags = tc.mode, tc.redact })
			const in, out = cln.Channel(103<<40 | 1<<16), cln.Channel(104<<40 | 2<<16 | 1)
			now := time.Now()
			forward := cln.Forward{
				Hash: cln.Hash{0xab, 0xcd}, In: in, Out: out, InHTLC: 7, InMsat: 1001, OutMsat: 1000, FeeMsat: 1,
				Status: cln.ForwardOffered, Received: now.Add(-2 * time.Second).UnixNano(), Created: 1,
			}
			n.Notify(forward, now)
			listed := func(sort recorder.SortKey) string {
				answer, err := n.Traces(recorder.Query{Sort: sort, Match: "forward", Limit: 10})
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("%+v", answer.(recorder.List).Traces)
			}
			if tc.shown == "" {
				forward.Status, forward.Reason, forward.Resolved, forward.Updated = cln.ForwardFailed, "WIRE_TEMPORARY_CHANNEL_FAILURE", now.UnixNano(), 1
				n.Notify(forward, now)
				if err := n.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := n.recorded(t) + listed(recorder.SortOpen); strings.Contains(got, "forward") {
					t.Errorf("got %s", got)
				}
				return
			}
			n.wait(t, "the forward to be open", func(stats.Report) bool { return listed(recorder.SortOpen) != "[]" })
			if got := listed(recorder.SortOpen); !strings.Contains(got, tc.shown) || strings.Contains(got, "103x1x0") != (tc.redact == nil) {
				t.Errorf("open: %s", got)
			}
			forward.Status, forward.Reason, forward.Resolved = cln.ForwardFailed, "WIRE_TEMPORARY_CHANNEL_FAILURE", now.UnixNano()
			forward.Created, forward.Updated = 0, 1
			n.Notify(forward, time.Now())
			n.wait(t, "the forward to be recorded", func(stats.Report) bool { return listed(recorder.SortFailed) != "[]" })
			got := n.recorded(t)
			hash := "abcd" + strings.Repeat("0", 60)
			for _, part := range []string{"forward", "temporary_channel_failure", tc.shown} {
				if !strings.Contains(got, part) {
					t.Errorf("%q is not in %s", part, got)
				}
			}
			if strings.Contains(got, "103x1x0") != (tc.redact == nil) || strings.Contains(got, hash) != (tc.redact == nil) {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestRecorderUnderTraceParent has two pieces of lightningd's work, which share their
// trace id under CLN_TRACEPARENT, and whose parent never comes.
func TestRecorderUnderTraceParent(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	n := open(t, Options{TraceParent: "00-" + id + "-00000000000000aa-01"})
	n.start(t, "off", nil)
	span := func(own, parent, name string) string {
		return fmt.Sprintf(`[{"id":"%016s","parentId":"%016s","name":"%s","timestamp":1795324398371053,"duration":501,`+
			`"localEndpoint":{"serviceName":"lightningd"},"tags":{},"traceId":"%s"}]`, own, parent, name, id)
	}
	n.send(t, span("b2", "b1", "inner"), span("b1", "aa", "outer"), span("c1", "aa", "extend_tip"))
	if err := n.Shutdown(t.Context()); err != nil { // so that nothing waits any more
		t.Fatal(err)
	}
	answer, err := n.Traces(recorder.Query{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, s := range answer.(recorder.List).Traces {
		got[s.SpanID] = fmt.Sprint(s.TraceID, " ", s.Span, " ", s.Spans)
	}
	want := map[string]string{"00000000000000b1": id + " outer 2", "00000000000000c1": id + " extend_tip 1"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestRequestThatPaidIsNoFailure shows the root of a request of which one part failed
// and another one succeeded, and of one that failed as a whole.
func TestRequestThatPaidIsNoFailure(t *testing.T) {
	for _, tc := range []struct {
		mode               payments.Mode
		sent, paid, unpaid bool
		want               bool
	}{
		{payments.Local, true, true, false, false},
		{payments.Local, false, false, true, true},
		{payments.Local, true, false, false, true},
		{payments.Off, true, true, false, true},
	} {
		s := &correlate.Span{Process: &process.Identity{Name: "cln-xpay"}, Synthetic: true}
		if tc.sent {
			s.Tags = []zipkin.Tag{{Key: cln.TagError, Value: cln.True}}
		}
		s.Payment = &payments.Facts{Paid: tc.paid, Unpaid: tc.unpaid}
		shown := shownSpan{policy: policy.New(policy.Config{SampleRatio: 1, Payments: tc.mode}).OnNode()}
		if got := shown.of(s).Failed; got != tc.want {
			t.Errorf("%+v: it failed: %v", tc, got)
		}
	}
}
