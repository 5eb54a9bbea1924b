package stats

import (
	"math"
	"slices"
	"testing"
	"time"

	"clntrace/collector/cln"
)

func TestWhereRequestsWaited(t *testing.T) {
	table := observe(observed)
	pair := func(detail string, wait time.Duration) Pairing {
		return Pairing{xpay, "jsonrpc", detail, wait, 30 * time.Microsecond, 70 * time.Microsecond, detail == "getroutes"}
	}
	table.ObservePairs([]Pairing{pair("getroutes", 10*time.Microsecond), pair("getroutes", 20*time.Microsecond), pair("never seen", 0)})
	for _, o := range table.Operations(Query{Limit: 100, Reset: true}, showAll) {
		got := [...]float64{o.WaitAvgUS, o.WaitP99US, o.WorkAvgUS, o.AnswerAvgUS, float64(o.Paired)}
		var want [5]float64
		if o.Span == "jsonrpc" && o.Detail == "getroutes" {
			want = [...]float64{15, 20, 30, 70, 2}
		}
		if got != want {
			t.Errorf("%s %s: wait, its p99, work, answer and count are %v, want %v", o.Span, o.Detail, got, want)
		}
	}
	table.ObservePairs([]Pairing{pair("getroutes", 0)}) // of a span before the reset
	if rows := table.Operations(Query{Limit: 100}, showAll); len(rows) != 0 {
		t.Errorf("after the reset there are %+v", rows)
	}
}

func TestWholeRequestIsNoSpanOfItsSender(t *testing.T) {
	table := NewOperations()
	table.ObserveDerived([]Observation{{xpay, cln.SpanWhole, "xpay", time.Second, true}})
	if rows := table.Operations(Query{Limit: 1}, showAll); len(rows) != 1 || rows[0].Span != cln.SpanWhole || rows[0].Count != 1 || rows[0].Errors != 1 {
		t.Errorf("operations are %+v", rows)
	}
	if senders := table.Processes(); len(senders) != 0 {
		t.Errorf("senders are %+v", senders)
	}
}

func TestRequestsTogether(t *testing.T) {
	table := observe(observed)
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	table.ObservePairs([]Pairing{
		{xpay, "jsonrpc", "getroutes", ms(1), ms(1), ms(90), false},
		{xpay, "jsonrpc", "getroutes", ms(3), ms(1), ms(5), true},
	})
	want := Requests{Paired: 2, WaitAvgMS: 2, WaitP99MS: 2.99, Writes: 1, AnswerAvgMS: 5, AnswerP99MS: 5}
	got := table.Requests()
	got.WaitP99MS = math.Round(got.WaitP99MS*100) / 100 // the percentile is within 2 %
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	table.Operations(Query{Reset: true}, showAll)
	if got := table.Requests(); got != (Requests{}) {
		t.Errorf("after the reset got %+v", got)
	}
}

// What the table shows under WHAT finds its row.
func TestMatchFindsWhatIsShown(t *testing.T) {
	table := observe(observed)
	for _, o := range table.Operations(Query{Limit: 100}, showAll) {
		rows := table.Operations(Query{Limit: 100, Match: o.what()}, showAll)
		if len(rows) == 0 || !slices.ContainsFunc(rows, func(r Operation) bool { return r.Span == o.Span && r.Detail == o.Detail }) {
			t.Errorf("%q finds %+v", o.what(), rows)
		}
	}
}
