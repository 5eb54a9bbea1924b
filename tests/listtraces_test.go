package tests

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// What listtraces answers, spelled out here so that a change of a name in the plugin
// makes a test fail.
type traceList struct {
	Traces   []traceSummary `json:"traces"`
	Recorder struct {
		Traces     int   `json:"traces"`
		Spans      int   `json:"spans"`
		Bytes      int64 `json:"bytes"`
		LimitBytes int64 `json:"limit_bytes"`
		Evicted    int   `json:"evicted"`
	} `json:"recorder"`
}

type traceSummary struct {
	TraceID     string    `json:"trace_id"`
	SpanID      string    `json:"span_id"` // only under CLN_TRACEPARENT
	StartedAt   time.Time `json:"started_at"`
	DurationMS  float64   `json:"duration_ms"`
	Process     string    `json:"process"`
	Span        string    `json:"span"`
	Detail      string    `json:"detail"`
	Status      string    `json:"status"`
	ErrorType   string    `json:"error_type"`
	Spans       int       `json:"spans"`
	Errors      int       `json:"errors"`
	PaymentHash string    `json:"payment_hash"`
	Kept        []string  `json:"kept"`
}

type oneTrace struct {
	Trace struct {
		traceSummary
		Spans        []traceSpan `json:"spans"`
		SpansLeftOut int         `json:"spans_left_out"`
	} `json:"trace"`
}

type traceSpan struct {
	SpanID     string         `json:"span_id"`
	ParentID   string         `json:"parent_id"`
	Process    string         `json:"process"`
	PID        int            `json:"pid"`
	Span       string         `json:"span"`
	Detail     string         `json:"detail"`
	OffsetUS   *int64         `json:"offset_us"`
	DurationUS *int64         `json:"duration_us"`
	Status     string         `json:"status"`
	ErrorType  string         `json:"error_type"`
	WaitUS     *int64         `json:"wait_us"`
	WorkUS     *int64         `json:"work_us"`
	Attributes map[string]any `json:"attributes"`
	Count      int            `json:"count"`
	BusyUS     int64          `json:"busy_us"`
	LongestUS  int64          `json:"longest_us"`
}

// listTraces calls listtraces, whose answer must have no other fields than answer.
func listTraces(t *testing.T, n *lightningdtest.Node, params any, answer any) {
	t.Helper()
	text, err := n.Call("listtraces", params)
	if err != nil {
		t.Fatalf("%v: %v", params, err)
	}
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(answer); err != nil {
		t.Fatalf("%v: %v: %s", params, err, text)
	}
}

// traceTable is what a terminal shows, after a check that it fits.
func traceTable(t *testing.T, n *lightningdtest.Node, params object) string {
	t.Helper()
	params["format"] = "table"
	var answer struct {
		FormatHint string `json:"format-hint"`
		Table      string `json:"table"`
	}
	listTraces(t, n, params, &answer)
	for line := range strings.Lines(answer.Table) {
		if len(strings.TrimRight(line, "\n")) > 79 {
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
	if answer.FormatHint != "simple" || strings.ContainsFunc(answer.Table, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
		t.Errorf("got %+q", answer)
	}
	return answer.Table
}

// tracing is a node that has started, has paid with one part that failed and one that
// did not, and has forwarded.
func tracing(t *testing.T) *lightningdtest.Node {
	t.Helper()
	// A busy machine may delay a part's notification too much for it to be joined.
	for range 5 {
		n := launch(t, lightningdtest.Config{Plugin: clntrace, Options: map[string]string{"clntrace-otlp-endpoint": "off"}})
		n.Senders(sender).Replay(load(t, recording.Startup))
		act(t, n)
		r := waitStats(t, n, "the payment to end", func(r report) bool { return r.Payments != nil && operation(r, "payment") })
		if r.Payments.Unjoined == 0 {
			return n
		}
		endCleanly(t, n)
	}
	t.Fatal("in 5 payments a part was not joined with its notification")
	return nil
}

func TestListTraces(t *testing.T) {
	n := tracing(t)
	var all traceList
	wait.For(t, "the payment's root", func() bool {
		all = traceList{}
		listTraces(t, n, object{"match": "xpay", "limit": 100}, &all)
		return slices.ContainsFunc(all.Traces, func(s traceSummary) bool { return s.Detail == "xpay" })
	})
	xpay := all.Traces[slices.IndexFunc(all.Traces, func(s traceSummary) bool { return s.Detail == "xpay" })]
	if xpay.Status != "ok" || xpay.ErrorType != "" || xpay.Process != "cln-xpay" || xpay.Span != "request" || xpay.Spans != 5 || xpay.Errors != 1 ||
		xpay.PaymentHash != hash || xpay.DurationMS < 30 || xpay.StartedAt.IsZero() || len(xpay.TraceID) != 32 || !slices.Contains(xpay.Kept, "slowest") {
		t.Errorf("got %+v", xpay)
	}
	if r := all.Recorder; r.Traces == 0 || r.Spans < r.Traces || r.Bytes == 0 || r.LimitBytes != 16<<20 || r.Evicted != 0 {
		t.Errorf("got %+v", r)
	}
	t.Run("one trace", func(t *testing.T) { showsPayment(t, n, xpay) })
	t.Run("order", func(t *testing.T) { ordersTraces(t, n) })
	t.Run("several of a prefix", func(t *testing.T) {
		var several traceList
		listTraces(t, n, object{"id": hash[:12]}, &several) // of the request, the payment and the invoice
		if len(several.Traces) < 3 || slices.ContainsFunc(several.Traces, func(s traceSummary) bool { return s.PaymentHash != hash }) {
			t.Errorf("got %+v", several.Traces)
		}
		if got := traceTable(t, n, object{"id": hash[:12]}); !strings.Contains(got, xpay.TraceID[:8]) || !strings.Contains(got, "invoice paid") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("open", func(t *testing.T) { showsOpen(t, n) })
	t.Run("tables", func(t *testing.T) { showsTables(t, n) })
	endCleanly(t, n)
}

// showsPayment looks at the tree of the payment.
func showsPayment(t *testing.T, n *lightningdtest.Node, xpay traceSummary) {
	for _, id := range []string{xpay.TraceID, xpay.TraceID[:8], strings.ToUpper(xpay.TraceID[:10])} {
		var one oneTrace
		listTraces(t, n, object{"id": id}, &one)
		if one.Trace.TraceID != xpay.TraceID || len(one.Trace.Spans) != 5 || one.Trace.SpansLeftOut != 0 {
			t.Fatalf("%s: got %+v", id, one)
		}
		for i, s := range one.Trace.Spans {
			if s.OffsetUS == nil || s.DurationUS == nil || *s.OffsetUS < 0 || s.PID == 0 || (s.ParentID == "") != (i == 0) || len(s.SpanID) != 16 {
				t.Errorf("got %+v", s)
			}
		}
		part := one.Trace.Spans[slices.IndexFunc(one.Trace.Spans, func(s traceSpan) bool { return s.Status == "failed" })]
		if part.ErrorType != "temporary_channel_failure" || part.Detail != "injectpaymentonion" || part.Attributes["cln.payment.failed_hop"] != 1. {
			t.Errorf("got %+v", part)
		}
	}
	got := traceTable(t, n, object{"id": xpay.TraceID[:8]})
	for _, want := range []string{
		"xpay in cln-xpay\n", "payment " + hash, "|-! part 1 ", "over " + channelOut + "/1, " + channelIn + "/0\n",
		"failed: temporary_channel_failure, at hop 1 of 2,", "channel " + channelIn + "/0\n", "-part 2 ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

// ordersTraces looks at the orders, at match and at limit.
func ordersTraces(t *testing.T, n *lightningdtest.Node) {
	end := func(s traceSummary) time.Time {
		return s.StartedAt.Add(time.Duration(s.DurationMS * float64(time.Millisecond)))
	}
	for sort, inOrder := range map[string]func(a, b traceSummary) int{
		"slowest": func(a, b traceSummary) int { return int(1000 * (b.DurationMS - a.DurationMS)) },
		"recent": func(a, b traceSummary) int {
			return end(b).Truncate(time.Microsecond).Compare(end(a).Truncate(time.Microsecond))
		},
	} {
		var list traceList
		listTraces(t, n, object{"sort": sort, "limit": 1000}, &list)
		if len(list.Traces) < 20 || !slices.IsSortedFunc(list.Traces, inOrder) {
			t.Errorf("%s: got %d: %+v", sort, len(list.Traces), list.Traces)
		}
	}
	for what, want := range map[string]struct {
		params any
		length int
		first  string
	}{
		"limit":         {object{"limit": 3}, 3, "lightningd/startup"},
		"none":          {object{"limit": 0}, 0, ""},
		"default":       {[]any{}, 20, "lightningd/startup"},
		"failed":        {object{"sort": "failed", "match": "cln-xpay"}, 0, ""},
		"by position":   {[]any{nil, "slowest", "STARTUP", 5, "json"}, 1, "lightningd/startup"},
		"match nothing": {object{"match": "<&>"}, 0, ""},
	} {
		var list traceList
		listTraces(t, n, want.params, &list)
		if list.Traces == nil || len(list.Traces) != want.length || want.length > 0 && list.Traces[0].Span != want.first {
			t.Errorf("%s: got %d: %+v", what, len(list.Traces), list.Traces)
		}
	}
}

// showsOpen has a part of a payment begin, and looks for it until it has ended.
func showsOpen(t *testing.T, n *lightningdtest.Node) {
	const other = "00ff"
	part := object{
		"payment_hash": strings.Repeat(other, 16), "groupid": 9, "partid": 4, "total_payment_msat": 1000, "attempt_msat": 1000,
		"hops": []object{{"next_node": peer, "short_channel_id": channelOut, "direction": 1, "channel_in_msat": 1001, "channel_out_msat": 1000}},
	}
	n.Notify("pay_part_start", part)
	var open traceList
	wait.For(t, "the part to be open", func() bool {
		open = traceList{}
		listTraces(t, n, object{"sort": "open"}, &open)
		return len(open.Traces) > 0
	})
	if s := open.Traces[0]; s.Status != "open" || s.Span != "payment part" || s.Detail != "4 over "+channelOut || s.PaymentHash != part["payment_hash"] {
		t.Errorf("got %+v", s)
	}
	if got := traceTable(t, n, object{"sort": "open"}); !strings.Contains(got, "payment part 4 over "+channelOut) {
		t.Errorf("got %s", got)
	}
	n.Notify("pay_part_end", object{
		"payment_hash": part["payment_hash"], "groupid": 9, "partid": 4, "duration": 0.1, "status": "failure", "error_message": "unknown_next_peer",
	})
	wait.For(t, "the part to end", func() bool {
		open = traceList{}
		listTraces(t, n, object{"sort": "open"}, &open)
		return len(open.Traces) == 0
	})
}

// showsTables looks at the lists and at the tree of the start.
func showsTables(t *testing.T, n *lightningdtest.Node) {
	for _, tc := range []struct {
		params object
		want   string
	}{
		{object{}, " lightningd/startup\n"},
		{object{}, "\nAnd "},
		{object{"sort": "open"}, "Nothing is open."},
		{object{"match": "no such thing"}, "No trace has 'no such thing' in process, name, detail, error or payment hash."},
		{object{"sort": "recent", "limit": 3}, "One of them: lightning-cli listtraces id="},
	} {
		if got := traceTable(t, n, tc.params); !strings.Contains(got, tc.want) {
			t.Errorf("%v: %q is not in\n%s", tc.params, tc.want, got)
		}
	}
	var list traceList
	listTraces(t, n, object{"match": "lightningd/startup"}, &list)
	var start oneTrace
	listTraces(t, n, object{"id": list.Traces[0].TraceID}, &start)
	statements := 0
	for _, s := range start.Trace.Spans {
		statements += max(s.Count, 1)
	}
	if list.Traces[0].Spans != 557 || statements+start.Trace.SpansLeftOut != 557 || len(start.Trace.Spans) > 500 {
		t.Errorf("%d spans of %d, which stand for %d, and %d left out", len(start.Trace.Spans), list.Traces[0].Spans, statements, start.Trace.SpansLeftOut)
	}
	if got := traceTable(t, n, object{"id": list.Traces[0].TraceID[:8]}); !strings.Contains(got, "| |-db_setup ") || strings.Count(got, "\n") > 60 {
		t.Errorf("got %s", got)
	}
}

func TestBadParametersOfListTraces(t *testing.T) {
	n, _ := launchWith(t, nil)
	for _, tc := range []struct {
		params any
		want   string
	}{
		{object{"id": "xyz"}, "listtraces: id: got 'xyz', must be the beginning of a trace id or of a payment hash, in hexadecimal digits"},
		{object{"id": ""}, "listtraces: id: got '', must be"},
		{object{"id": strings.Repeat("a", 65)}, "listtraces: id: got 'aaa"},
		{object{"id": "ff"}, "listtraces: id: got 'ff', but no trace that is kept has an id or a payment hash that begins so"},
		{object{"sort": "total"}, "listtraces: sort: got 'total', must be one of slowest, recent, failed, open"},
		{object{"limit": -1}, "listtraces: limit: got '-1', must be a whole number"},
		{object{"match": strings.Repeat("m", 201)}, "listtraces: match: got"},
		{object{"format": "xml"}, "listtraces: format: got 'xml', must be json or table"},
		{object{"reset": true}, "listtraces: unknown parameter 'reset', must be one of id, sort, match, limit, format"},
		{[]any{1, 2, 3, 4, 5, 6}, "listtraces: got 6 parameters, must be at most 5"},
	} {
		_, err := n.Call("listtraces", tc.params)
		refusal, ok := lightningdtest.AsRPCError(err)
		if !ok || !strings.Contains(refusal.Message, tc.want) || len(refusal.Message) > 1000 {
			t.Errorf("%v: got %v, want %s", tc.params, err, tc.want)
		}
	}
	endCleanly(t, n)
}

// TestListTracesUnderTraceParent replays a start of a node that had CLN_TRACEPARENT.
func TestListTracesUnderTraceParent(t *testing.T) {
	datagrams := load(t, recording.TraceparentStartup)
	const id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331" // as recorded
	n := launch(t, lightningdtest.Config{
		Plugin: clntrace, Env: []string{"CLN_TRACEPARENT=00-" + id + "-" + parent + "-01"},
		Options: map[string]string{"clntrace-otlp-endpoint": "off"},
	})
	n.Senders(sender).Replay(datagrams)
	var list traceList
	wait.For(t, "the start to be decided on", func() bool {
		text, err := n.Call("listtraces", object{"match": "lightningd/startup"})
		if err != nil {
			t.Fatal(err)
		}
		return json.Unmarshal(text, &list) == nil && len(list.Traces) == 1
	})
	if s := list.Traces[0]; s.TraceID != id || s.Spans != 242 {
		t.Errorf("got %+v", s)
	}
	var start oneTrace
	listTraces(t, n, object{"id": list.Traces[0].SpanID}, &start)
	if s := start.Trace.Spans; len(s) < 100 || s[0].Span != "lightningd/startup" || s[0].SpanID != list.Traces[0].SpanID {
		t.Errorf("got %d spans", len(s))
	}
	endCleanly(t, n)
}
