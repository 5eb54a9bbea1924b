package plugin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"clntrace/collector/recorder"
)

func TestParseTraces(t *testing.T) {
	def := recorder.Query{Limit: 20, Sort: recorder.SortSlowest}
	changed := func(change func(*recorder.Query)) tracesRequest {
		q := def
		change(&q)
		return tracesRequest{Query: q}
	}
	for _, tt := range []struct {
		params string
		want   tracesRequest
		err    string
	}{
		{params: ``, want: tracesRequest{Query: def}},
		{params: `{}`, want: tracesRequest{Query: def}},
		{params: `["4bf92f35"]`, want: changed(func(q *recorder.Query) { q.ID = "4bf92f35" })},
		// What lightning-cli makes of digits, and of digits around an e.
		{params: `[12345678]`, want: changed(func(q *recorder.Query) { q.ID = "12345678" })},
		{params: `{"id":1e45678}`, want: changed(func(q *recorder.Query) { q.ID = "1e45678" })},
		{params: `[null,"failed","xpay",5,"table"]`, want: tracesRequest{recorder.Query{Sort: recorder.SortFailed, Match: "xpay", Limit: 5}, true}},
		{params: `{"sort":"open","limit":0}`, want: changed(func(q *recorder.Query) { q.Sort, q.Limit = recorder.SortOpen, 0 })},

		{params: `["xyz"]`, err: "listtraces: id: got 'xyz', must be the beginning of a trace id or of a payment hash, in hexadecimal digits"},
		{params: `[""]`, err: "listtraces: id: got '', must be"},
		{params: `["` + strings.Repeat("a", 65) + `"]`, err: "listtraces: id: got 'aaa"},
		{params: `{"sort":"total"}`, err: "listtraces: sort: got 'total', must be one of slowest, recent, failed, open"},
		{params: `{"limit":-1}`, err: "listtraces: limit: got '-1', must be a whole number from 0 to 100000"},
		{params: `{"match":"` + strings.Repeat("m", 201) + `"}`, err: "must be text of at most 200 bytes"},
		{params: `{"format":"xml"}`, err: "listtraces: format: got 'xml', must be json or table"},
		{params: `{"reset":true}`, err: "listtraces: unknown parameter 'reset', must be one of id, sort, match, limit, format"},
		{params: `[1,2,3,4,5,6]`, err: "listtraces: got 6 parameters, must be at most 5: id, sort, match, limit, format"},
	} {
		got, err := parseTraces(json.RawMessage(tt.params))
		switch {
		case tt.err == "" && (err != nil || got != tt.want):
			t.Errorf("%s: got %+v, %v; want %+v", tt.params, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: got %v, want %s", tt.params, err, tt.err)
		}
	}
}

// lightning-cli makes numbers of parameters that have only digits, or digits and a dot.
// They are texts, whatever their value.
func TestNumbersKeepTheirText(t *testing.T) {
	n := startNode(t, false)
	var got recorder.Query
	n.spans.traces = func(q recorder.Query) (recorder.Answer, error) {
		got = q
		return recorder.List{}, nil
	}
	for _, number := range []string{"9007199254740993", "12345678901234567890123456789012", "1e45678", "12345678e10", "1.50"} {
		for _, params := range []string{`{"match":%s}`, `{"id":%s}`, `[%s]`} {
			_, fail := n.ask("listtraces", fmt.Sprintf(params, number))
			switch {
			case strings.Contains(number, "."):
				if !strings.Contains(params, "match") && !strings.Contains(fail, "got '"+number+"'") {
					t.Errorf("%s of %s: %q", params, number, fail)
				}
			case fail != "" || got.ID+got.Match != number:
				t.Errorf("%s of %s: got %q, %q, %s", params, number, got.ID, got.Match, fail)
			}
		}
	}
	if _, fail := n.ask("listtraces", `{"match":1.50,"limit":7}`); fail != "" || got.Match != "1.50" || got.Limit != 7 {
		t.Errorf("got %+v, %s", got, fail)
	}
}

func TestListTraces(t *testing.T) {
	n := startNode(t, false)
	kept := recorder.Summary{
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", StartedAt: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), DurationMS: 1.5,
		Process: "cln-xpay", Span: "request", Detail: "<xpay>", Status: recorder.StatusOK, Spans: 1, Kept: []string{recorder.KeptRecent},
	}
	n.spans.traces = func(q recorder.Query) (recorder.Answer, error) {
		switch q.ID {
		case "":
			return recorder.List{Traces: []recorder.Summary{kept}, Recorder: recorder.Status{Traces: 1, Spans: 1, Bytes: 500, LimitBytes: 1 << 24}}, nil
		case "4bf9":
			return recorder.Single{Trace: &recorder.Trace{Summary: kept, Spans: []recorder.TraceSpan{{SpanID: "01", Span: "request", Status: recorder.StatusOK}}}}, nil
		}
		return nil, recorder.ErrNone
	}
	const summary = `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","started_at":"2026-11-25T12:00:00Z","duration_ms":1.5,` +
		`"process":"cln-xpay","span":"request","detail":"<xpay>","status":"ok",`
	for _, tt := range []struct{ params, want, fail string }{
		{params: `{}`, want: `{"traces":[{` + summary + `"spans":1,"kept":["recent"]}],` +
			`"recorder":{"traces":1,"spans":1,"bytes":500,"limit_bytes":16777216,"evicted":0}}`},
		{params: `{"id":"4bf9"}`, want: `{"trace":{` + summary + `"kept":["recent"],` +
			`"spans":[{"span_id":"01","span":"request","offset_us":0,"duration_us":0,"status":"ok"}]}}`},
		{params: `{"id":"ff"}`, fail: "listtraces: id: got 'ff', but no trace that is kept has an id or a payment hash that begins so; 'lightning-cli listtraces' lists those that are kept, with a request some 5 s after its last span"},
	} {
		result, fail := n.ask("listtraces", tt.params)
		if string(result) != tt.want && tt.want != "" || fail != tt.fail {
			t.Errorf("%s:\ngot  %s, %q\nwant %s, %q", tt.params, result, fail, tt.want, tt.fail)
		}
	}
	for params, want := range map[string]string{
		`{"format":"table"}`:             "One of them: lightning-cli listtraces id=4bf92f35 format=table",
		`{"format":"table","id":"4bf9"}`: "Trace 4bf92f3577b34da6a3ce929d0e0e4736: <xpay> in cln-xpay\n",
	} {
		result, fail := n.ask("listtraces", params)
		var table map[string]string
		if err := json.Unmarshal(result, &table); err != nil || fail != "" {
			t.Fatalf("got %s, %q: %v", result, fail, err)
		}
		if text := table["table"]; !strings.Contains(text, want) || len(table) != 2 || table["format-hint"] != "simple" || strings.HasSuffix(text, "\n") {
			t.Errorf("got %s", result)
		}
	}
}
