package tests

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/recording"
)

func TestBadParametersAreNamed(t *testing.T) {
	n, _ := launchWith(t, nil)
	hostile := `<script>&"'\` + "\n\x00\u2028☃"
	for _, tc := range []struct {
		name   string
		params any
		names  []string // all in the message
	}{
		{"limit, text", object{"limit": "many"}, []string{"limit", "many"}},
		{"limit, negative", object{"limit": -1}, []string{"limit", "-1"}},
		{"limit, fraction", object{"limit": 1.5}, []string{"limit", "1.5"}},
		{"limit, beyond int", object{"limit": json.RawMessage("1e99")}, []string{"limit"}},
		{"limit, beyond float", object{"limit": json.RawMessage("1e999")}, []string{"limit"}},
		{"limit, boolean", object{"limit": true}, []string{"limit", "true"}},
		{"limit, array", object{"limit": []int{1}}, []string{"limit"}},
		{"limit, positional", []any{"many"}, []string{"limit", "many"}},
		{"sort, unknown", object{"sort": "size"}, []string{"sort", "size", "total", "count", "avg", "p99", "max", "errors"}},
		{"sort, number", object{"sort": 7}, []string{"sort", "7"}},
		{"sort, hostile", object{"sort": hostile}, []string{"sort", "script"}},
		{"sort, huge", object{"sort": strings.Repeat("x", 1<<19)}, []string{"sort"}},
		{"sort, beyond reason", object{"sort": strings.Repeat("x", 2<<20)}, nil},
		{"sort, positional", []any{1, "size"}, []string{"sort", "size"}},
		{"match, object", object{"match": object{"a": hostile}}, []string{"match"}},
		{"reset, text", object{"reset": "maybe"}, []string{"reset", "maybe"}},
		{"reset, number", object{"reset": 7}, []string{"reset", "7"}},
		{"format, unknown", object{"format": "xml"}, []string{"format", "xml", "json", "table"}},
		{"format, array", object{"format": []any{}}, []string{"format"}},
		{"unknown name", object{"lmit": 5}, []string{"lmit"}},
		{"unknown name, hostile", object{hostile: 5}, []string{"script"}},
		{"unknown beside a known one", object{"limit": 5, "depth": 1}, []string{"depth"}},
		{"too many", []any{1, "count", "x", false, "json", "more"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := n.Call("tracestats", tc.params)
			refusal, ok := lightningdtest.AsRPCError(err)
			if !ok {
				t.Fatalf("not refused: %v", err)
			}
			for _, name := range tc.names {
				if !strings.Contains(refusal.Message, name) {
					t.Errorf("the message does not say %q: %s", name, refusal.Message)
				}
			}
			if len(refusal.Message) > 1000 {
				t.Errorf("the message has %d bytes: %.80s…", len(refusal.Message), refusal.Message)
			}
			const invalidParams, parseError = -32602, -32700 // the latter for what nobody takes for parameters
			if refusal.Code != invalidParams && refusal.Code != parseError {
				t.Errorf("code %d", refusal.Code)
			}
			stats(t, n) // still answers
		})
	}
}

func TestGoodParameters(t *testing.T) {
	n, _ := launchWith(t, nil)
	datagrams := load(t, recording.Xpay)
	n.Senders(sender).Replay(datagrams)
	settled(t, n, uint64(len(datagrams)))
	for _, tc := range []struct {
		name   string
		params any
		holds  func([]operationRow) bool
	}{
		{"none", []any{}, func(rows []operationRow) bool { return len(rows) > 1 && len(rows) <= 20 && sortedBy(rows, totalOf) }},
		{"empty object", object{}, func(rows []operationRow) bool { return len(rows) > 1 && len(rows) <= 20 }},
		{"limit", object{"limit": 3}, func(rows []operationRow) bool { return len(rows) == 3 }},
		{"no rows", object{"limit": 0}, func(rows []operationRow) bool { return len(rows) == 0 }},
		{"more than there are", object{"limit": 1000}, func(rows []operationRow) bool { return len(rows) > 20 }},
		{"by count", object{"sort": "count"}, func(rows []operationRow) bool {
			return sortedBy(rows, func(o operationRow) float64 { return float64(o.Count) })
		}},
		{"by average", object{"sort": "avg"}, func(rows []operationRow) bool {
			return sortedBy(rows, func(o operationRow) float64 { return o.AvgUS })
		}},
		{"by p99", object{"sort": "p99"}, func(rows []operationRow) bool {
			return sortedBy(rows, func(o operationRow) float64 { return o.P99US })
		}},
		{"by maximum", object{"sort": "max"}, func(rows []operationRow) bool {
			return sortedBy(rows, func(o operationRow) float64 { return float64(o.MaxUS) })
		}},
		{"by errors", object{"sort": "errors"}, func(rows []operationRow) bool {
			return sortedBy(rows, func(o operationRow) float64 { return float64(o.Errors) })
		}},
		{"match process", object{"match": "CLN-ASKRENE"}, func(rows []operationRow) bool {
			return len(rows) == 1 && rows[0].Process == "cln-askrene" && rows[0].Detail == "listpeerchannels" && rows[0].Count == 1
		}},
		{"match detail", object{"match": "injectpaymentonion"}, func(rows []operationRow) bool {
			return len(rows) == 2 // the plugin's call, and lightningd's part of it
		}},
		{"match nothing", object{"match": "<&>"}, func(rows []operationRow) bool { return len(rows) == 0 }},
		{"positional", []any{1, "count", "db_", false, "json"}, func(rows []operationRow) bool {
			return len(rows) == 1 && strings.HasPrefix(rows[0].Span, "db_")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := tracestats(n, tc.params)
			if err != nil {
				t.Fatal(err)
			}
			if r.Operations == nil || !tc.holds(r.Operations) {
				t.Errorf("got %+v", r.Operations)
			}
		})
	}
}

func totalOf(o operationRow) float64 { return o.TotalMS }

func sortedBy(rows []operationRow, key func(operationRow) float64) bool {
	return len(rows) > 0 && slices.IsSortedFunc(rows, func(a, b operationRow) int {
		return int(1e6 * (key(b) - key(a)))
	})
}

func TestResetStartsOperationsAnew(t *testing.T) {
	n, _ := launchWith(t, nil)
	s := n.Senders(sender).Start("lightningd")
	send(t, s, recording.Numbered("extend_tip", 1, 5)...)
	settled(t, n, 5)
	before, err := tracestats(n, object{"reset": true})
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Operations) != 1 || before.Operations[0].Count != 5 {
		t.Errorf("the resetting answer has %+v", before.Operations)
	}
	send(t, s, recording.Numbered("filter_block_txs", 6, 2)...)
	after := settled(t, n, 7)
	if len(after.Operations) != 1 || after.Operations[0].Count != 2 {
		t.Errorf("after the reset: %+v", after.Operations)
	}
	if after.Datagrams.Accepted != 7 || after.Processes[0].Spans != 7 {
		t.Errorf("the reset reached further: %+v, %+v", after.Datagrams, after.Processes)
	}
}

func TestTable(t *testing.T) {
	n, _ := launchWith(t, nil)
	datagrams := load(t, recording.Xpay)
	n.Senders(sender).Replay(datagrams)
	settled(t, n, uint64(len(datagrams)))
	text, err := n.Call("tracestats", object{"format": "table"})
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	if answer["format-hint"] != "simple" {
		t.Errorf("format-hint %v", answer["format-hint"])
	}
	for _, shown := range []string{"lightningd", "cln-xpay", "cln-askrene", "chanbackup", "injectpaymentonion", "UPDATE channels", n.TraceSocket} {
		if !strings.Contains(string(text), shown) {
			t.Errorf("the table does not show %s:\n%s", shown, text)
		}
	}
	// lightning-cli shows these as u003c and so on.
	for _, escape := range []string{`\u003c`, `\u003e`, `\u0026`} {
		if strings.Contains(string(text), escape) {
			t.Errorf("the table holds %s:\n%s", escape, text)
		}
	}
}

// A client may choose any id, and lightningd passes it on unchanged unless it would
// have to be escaped in JSON.
func TestHostileIDs(t *testing.T) {
	n, _ := launchWith(t, nil)
	for _, client := range []string{
		"plain", "123", "", "sl/ash/cln:pay#1/cln-xpay:fake#2", "%s %n %d", "weird-id", "null", "-1.5e3",
		"<script>", "a&b", "a>b", "'", "ünï☃😀", "line\u2028separator", strings.Repeat("L", 5000),
	} {
		t.Run(client[:min(len(client), 20)], func(t *testing.T) {
			if _, err := n.CallAs(client, "tracestats", []any{}); err != nil {
				t.Error(err)
			}
			if _, err := n.CallAs(client, "tracestats", object{"limit": -1}); err == nil {
				t.Error("no error from a bad parameter")
			} else if _, refused := lightningdtest.AsRPCError(err); !refused {
				t.Error(err)
			}
		})
	}
}

func TestUnknownMethodIsRefused(t *testing.T) {
	n, _ := launchWith(t, nil)
	_, err := n.Call("tracestat", []any{})
	if _, ok := lightningdtest.AsRPCError(err); !ok {
		t.Errorf("got %v", err)
	}
	stats(t, n)
}
