package cln

import (
	"fmt"
	"testing"
)

// tags are those of a span, for tests.
type tags map[string]string

func (t tags) Tag(key string) string { return t[key] }

func TestDetailOfEachKindOfSpan(t *testing.T) {
	for _, tc := range []struct {
		what, span string
		tags       tags
		want       string
	}{
		{"request of a plugin", "jsonrpc", tags{"id": "cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459", "error": "false"}, "getroutes"},
		{"request with a strange id", "jsonrpc", tags{"id": "weird-id"}, ""},
		{"request without an id", "jsonrpc", tags{"error": "true"}, ""},
		{"command", "lightningd/jsonrpc", tags{"method": "listpeers"}, "listpeers"},
		{"command without a method", "lightningd/jsonrpc", nil, ""},
		{"request to the backend", "plugin/bitcoind", tags{"method": "getrawblockbyheight"}, "getrawblockbyheight"},
		{"change", "db_exec_prepared", tags{"query": "UPDATE vars SET intval=? WHERE name=?;"}, "UPDATE vars"},
		{"query", "db_query_prepared", tags{"query": "SELECT rune FROM runes"}, "SELECT runes"},
		{"statement without its text", "db_query_prepared", nil, ""},
		{"step of a payment", "payment_continue", tags{"step": "9"}, ""},
		{"span that bears others' tags", "extend_tip", tags{"method": "x", "query": "SELECT 1"}, ""},
		{"span without a name", "", nil, ""},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var r Reader
			for range 2 { // the second time from memory
				if got := r.Of(tc.span, tc.tags); got != tc.want {
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
		if got, want := r.Of(spanQuery, tags{TagQuery: "SELECT 1 FROM " + table}), "SELECT "+table; got != want {
			t.Fatalf("statement %d: got %q, want %q", i, got, want)
		}
		if n := len(r.summaries); n > maxSummaries {
			t.Fatalf("%d summaries are remembered after %d statements", n, i+1)
		}
	}
}

// As in a recording: four of five spans are database statements.
func BenchmarkReaderOf(b *testing.B) {
	type span struct {
		name string
		tags tags
	}
	var spans []span
	for i, s := range statements(b) {
		spans = append(spans, span{spanQuery, tags{TagQuery: s}})
		if i%4 == 0 {
			spans = append(spans, span{SpanRequest,
				tags{TagID: "cli:xpay#4021/cln:xpay#824/cln-xpay:getroutes#459/cln:getroutes#828/cln-askrene:listpeerchannels#55"}})
		}
	}
	var r Reader
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s := &spans[i%len(spans)]
		r.Of(s.name, s.tags)
		i++
	}
}
