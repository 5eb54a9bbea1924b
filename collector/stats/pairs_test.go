package stats

import (
	"testing"
	"time"

	"clntrace/collector/cln"
)

func TestWhereRequestsWaited(t *testing.T) {
	table := observe(observed)
	pair := func(detail string, wait time.Duration) Pairing {
		return Pairing{xpay, "jsonrpc", detail, wait, 30 * time.Microsecond, 70 * time.Microsecond}
	}
	table.ObservePairs([]Pairing{pair("getroutes", 10*time.Microsecond), pair("getroutes", 20*time.Microsecond), pair("never seen", 0)})
	for _, o := range table.Operations(Query{Limit: 100, Reset: true}) {
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
	if rows := table.Operations(Query{Limit: 100}); len(rows) != 0 {
		t.Errorf("after the reset there are %+v", rows)
	}
}

func TestWholeRequestIsNoSpanOfItsSender(t *testing.T) {
	table := NewOperations()
	table.ObserveDerived([]Observation{{xpay, cln.SpanWhole, "xpay", time.Second, true}})
	if rows := table.Operations(Query{Limit: 1}); len(rows) != 1 || rows[0].Span != cln.SpanWhole || rows[0].Count != 1 || rows[0].Errors != 1 {
		t.Errorf("operations are %+v", rows)
	}
	if senders := table.Processes(); len(senders) != 0 {
		t.Errorf("senders are %+v", senders)
	}
}
