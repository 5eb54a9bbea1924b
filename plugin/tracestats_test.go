package plugin

import (
	"encoding/json"
	"strings"
	"testing"

	"clntrace/collector/stats"
)

func TestParseStats(t *testing.T) {
	def := stats.Query{Limit: 20, Sort: stats.SortTotal}
	for _, tt := range []struct {
		params string
		want   statsRequest
		err    string
	}{
		{params: ``, want: statsRequest{Query: def}},
		{params: `null`, want: statsRequest{Query: def}},
		{params: `{}`, want: statsRequest{Query: def}},
		{params: `[]`, want: statsRequest{Query: def}},
		{params: `[5,"count","db_",true,"table"]`, want: statsRequest{stats.Query{Limit: 5, Sort: stats.SortCount, Match: "db_", Reset: true}, true}},
		{params: `["5","p99"]`, want: statsRequest{Query: stats.Query{Limit: 5, Sort: stats.SortP99}}},
		{params: `[null,null,null,null,"table"]`, want: statsRequest{def, true}},
		{params: `{"limit":0,"reset":"false","format":"json"}`, want: statsRequest{Query: stats.Query{Sort: stats.SortTotal}}},
		{params: `{"match":2024}`, want: statsRequest{Query: stats.Query{Limit: 20, Sort: stats.SortTotal, Match: "2024"}}},
		{params: `{"match":true}`, want: statsRequest{Query: stats.Query{Limit: 20, Sort: stats.SortTotal, Match: "true"}}},
		{params: `{"match":"<&>"}`, want: statsRequest{Query: stats.Query{Limit: 20, Sort: stats.SortTotal, Match: "<&>"}}},

		{params: `["x"]`, err: "tracestats: limit: got 'x', must be a whole number from 0 to 100000"},
		{params: `[-1]`, err: "tracestats: limit: got '-1', must be"},
		{params: `[1.5]`, err: "tracestats: limit: got '1.5', must be"},
		{params: `[1e30]`, err: "tracestats: limit: got '1e30', must be"},
		{params: `[100001]`, err: "tracestats: limit: got '100001', must be"},
		{params: `[true]`, err: "tracestats: limit: got 'true', must be"},
		{params: `[""]`, err: "tracestats: limit: got '', must be"},
		{params: `[[1]]`, err: "tracestats: limit: got '[1]', must be a single value"},
		{params: `{"limit":{"a":1}}`, err: "tracestats: limit: got '{'a':1}', must be a single value"},
		{params: `{"sort":"name"}`, err: "tracestats: sort: got 'name', must be one of total, count, avg, p99, max, errors"},
		{params: `{"sort":""}`, err: "tracestats: sort: got '', must be"},
		{params: `{"sort":"\u001b[2J\u0000\u2028"}`, err: "tracestats: sort: got '?[2J??', must be"},
		{params: `{"match":"` + strings.Repeat("m", 201) + `"}`, err: "tracestats: match: got '" + strings.Repeat("m", 60) + "...', must be text of at most 200 bytes"},
		{params: `{"reset":"yes"}`, err: "tracestats: reset: got 'yes', must be true or false"},
		{params: `{"format":"xml"}`, err: "tracestats: format: got 'xml', must be json or table"},
		{params: `{"limits":1}`, err: "tracestats: unknown parameter 'limits', must be one of limit, sort, match, reset, format"},
		{params: `[1,2,3,4,5,6]`, err: "tracestats: got 6 parameters, must be at most 5: limit, sort, match, reset, format"},
		{params: `"x"`, err: "tracestats: parameters are neither an object nor an array"},
	} {
		got, err := parseStats(json.RawMessage(tt.params))
		switch {
		case tt.err == "" && (err != nil || got != tt.want):
			t.Errorf("%s: got %+v, %v; want %+v", tt.params, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: got %v, want %s", tt.params, err, tt.err)
		}
	}
}

func TestTraceStats(t *testing.T) {
	n := startNode(t, false)
	asked := make(chan stats.Query, 1)
	n.spans.stats = func(q stats.Query) stats.Report {
		asked <- q
		return stats.Report{Version: "0.1.0", Status: stats.StatusOK, Warnings: []string{"a < b"}}
	}
	result, fail := n.ask("tracestats", `{"limit":"3","sort":"errors","match":"<x>","reset":true}`)
	if fail != "" || !strings.HasPrefix(string(result), `{"version":"0.1.0","uptime_seconds":0,"status":"ok","warnings":["a < b"],"socket":{`) {
		t.Errorf("got %s, %q", result, fail)
	}
	if got, want := <-asked, (stats.Query{Limit: 3, Sort: stats.SortErrors, Match: "<x>", Reset: true}); got != want {
		t.Errorf("asked for %+v, want %+v", got, want)
	}
	result, fail = n.ask("tracestats", `[null,null,null,null,"table"]`)
	var table map[string]string
	if err := json.Unmarshal(result, &table); err != nil || fail != "" {
		t.Fatalf("got %s, %q: %v", result, fail, err)
	}
	// lightning-cli prints the one member that is left, and its line's end.
	if text, ok := table["table"]; !ok || len(table) != 2 || table["format-hint"] != "simple" || strings.HasSuffix(text, "\n") {
		t.Errorf("got %s", result)
	}
	if _, fail := n.ask("tracestats", `["x"]`); fail != "tracestats: limit: got 'x', must be a whole number from 0 to 100000" {
		t.Errorf("got %q", fail)
	}
}
