package cln

import (
	"fmt"
	"testing"

	"clntrace/collector/zipkin"
)

func span(name string, tags ...zipkin.Tag) *zipkin.Span {
	return &zipkin.Span{Name: name, Tags: tags}
}

func TestDetailOfEachKindOfSpan(t *testing.T) {
	for _, tc := range []struct {
		name string
		span *zipkin.Span
		want string
	}{
		{"request of a plugin", span("jsonrpc",
			zipkin.Tag{Key: "id", Value: "cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459"}, zipkin.Tag{Key: "error", Value: "false"}), "getroutes"},
		{"request with a strange id", span("jsonrpc", zipkin.Tag{Key: "id", Value: "weird-id"}), ""},
		{"request without an id", span("jsonrpc", zipkin.Tag{Key: "error", Value: "true"}), ""},
		{"command", span("lightningd/jsonrpc", zipkin.Tag{Key: "method", Value: "listpeers"}), "listpeers"},
		{"command without a method", span("lightningd/jsonrpc"), ""},
		{"request to the backend", span("plugin/bitcoind", zipkin.Tag{Key: "method", Value: "getrawblockbyheight"}), "getrawblockbyheight"},
		{"change", span("db_exec_prepared", zipkin.Tag{Key: "query", Value: "UPDATE vars SET intval=? WHERE name=?;"}), "UPDATE vars"},
		{"query", span("db_query_prepared", zipkin.Tag{Key: "query", Value: "SELECT rune FROM runes"}), "SELECT runes"},
		{"statement without its text", span("db_query_prepared"), ""},
		{"step of a payment", span("payment_continue", zipkin.Tag{Key: "step", Value: "9"}), ""},
		{"span that bears others' tags", span("extend_tip", zipkin.Tag{Key: "method", Value: "x"}, zipkin.Tag{Key: "query", Value: "SELECT 1"}), ""},
		{"span without a name", span(""), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r Reader
			for range 2 { // the second time from memory
				if got := r.Of(tc.span); got != tc.want {
					t.Errorf("got %q, want %q", got, tc.want)
				}
			}
		})
	}
}

func TestReaderForgetsWhenTooManyStatementsCome(t *testing.T) {
	var r Reader
	for i := range 3 * maxSummaries {
		table := fmt.Sprint("t", i)
		s := span("db_query_prepared", zipkin.Tag{Key: TagQuery, Value: "SELECT 1 FROM " + table})
		if got, want := r.Of(s), "SELECT "+table; got != want {
			t.Fatalf("statement %d: got %q, want %q", i, got, want)
		}
		if n := len(r.summaries); n > maxSummaries {
			t.Fatalf("%d summaries are remembered after %d statements", n, i+1)
		}
	}
}

// As in a recording: four of five spans are database statements.
func BenchmarkReaderOf(b *testing.B) {
	var spans []*zipkin.Span
	for i, s := range statements(b) {
		spans = append(spans, span("db_query_prepared", zipkin.Tag{Key: TagQuery, Value: s}))
		if i%4 == 0 {
			spans = append(spans, span("jsonrpc",
				zipkin.Tag{Key: TagID, Value: "cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459/cln:getroutes#828/cln-askrene:listpeerchannels#55"}))
		}
	}
	var r Reader
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r.Of(spans[i%len(spans)])
		i++
	}
}
