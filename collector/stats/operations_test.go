package stats

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clntrace/collector/process"
)

func identity(name string, pid int32) *process.Identity {
	return &process.Identity{Name: name, PID: pid}
}

var lightningd, xpay = identity("lightningd", 3115), identity("cln-xpay", 3140)

// observed are the spans of the tests that look for one.
var observed = []Observation{
	{lightningd, "db_exec_prepared", "UPDATE channels", 100 * time.Microsecond, false},
	{lightningd, "db_exec_prepared", "UPDATE channels", 300 * time.Microsecond, false},
	{lightningd, "db_exec_prepared", "UPDATE channels", 200 * time.Microsecond, false},
	{lightningd, "lightningd/jsonrpc", "getroutes", 5 * time.Millisecond, false},
	{xpay, "jsonrpc", "getroutes", 2 * time.Millisecond, true},
	{xpay, "jsonrpc", "getroutes", 4 * time.Millisecond, false},
	{lightningd, "extend_tip", "", 1999 * time.Nanosecond, false},
	{xpay, "jsonrpc", "injectpaymentonion", 0, true},
	{xpay, "jsonrpc", "injectpaymentonion", 0, true},
}

func observe(spans []Observation) *Operations {
	t := NewOperations()
	t.Observe(spans, start)
	return t
}

// names writes operations as process/span/detail.
func names(list []Operation) (names []string) {
	for _, o := range list {
		names = append(names, strings.Join([]string{o.Process, o.Span, o.Detail}, "/"))
	}
	return names
}

func TestOperationsAddUp(t *testing.T) {
	table := observe(observed[:4])
	table.Observe(observed[4:], start) // in any portions
	want := []Operation{
		{Process: "cln-xpay", Span: "jsonrpc", Detail: "getroutes", Count: 2, Errors: 1, TotalMS: 6, AvgUS: 3000, MaxUS: 4000},
		{Process: "lightningd", Span: "lightningd/jsonrpc", Detail: "getroutes", Count: 1, TotalMS: 5, AvgUS: 5000, MaxUS: 5000},
		{Process: "lightningd", Span: "db_exec_prepared", Detail: "UPDATE channels", Count: 3, TotalMS: 0.6, AvgUS: 200, MaxUS: 300},
		{Process: "lightningd", Span: "extend_tip", Count: 1, TotalMS: 0.001, AvgUS: 1, MaxUS: 1},
		{Process: "cln-xpay", Span: "jsonrpc", Detail: "injectpaymentonion", Count: 2, Errors: 2},
	}
	got := table.Operations(Query{Limit: 20}, showAll)
	for i := range got { // percentiles have a test of their own
		got[i].P50US, got[i].P90US, got[i].P99US = 0, 0, 0
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

func TestProcessesOfOneNameShareOperations(t *testing.T) {
	table := observe([]Observation{
		{identity("pay", 1), "jsonrpc", "sendonion", time.Millisecond, false},
		{identity("pay", 2), "jsonrpc", "sendonion", time.Millisecond, true},
	})
	got := table.Operations(Query{Limit: 20}, showAll)
	if len(got) != 1 || got[0].Count != 2 || got[0].Errors != 1 {
		t.Errorf("got %+v", got)
	}
	if got := table.Processes(); len(got) != 2 {
		t.Errorf("got the processes %+v", got)
	}
}

func TestNegativeDurationCountsAsNone(t *testing.T) {
	got := observe([]Observation{{lightningd, "extend_tip", "", -time.Hour, false}}).Operations(Query{Limit: 1}, showAll)
	if len(got) != 1 || got[0].Count != 1 || got[0].MaxUS != 0 || got[0].TotalMS != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestSorting(t *testing.T) {
	// Named by their place under each key; "tied" ones differ only in name.
	var spans []Observation
	add := func(detail string, count, errors int, each, longest time.Duration) {
		for i := range count {
			d := each
			if i == 0 {
				d = longest
			}
			spans = append(spans, Observation{lightningd, "s", detail, d, i < errors})
		}
	}
	add("many", 50, 0, time.Millisecond, time.Millisecond)                              // 50 ms in all, 1 ms on average
	add("long", 2, 0, 40*time.Millisecond, 40*time.Millisecond)                         // 80 ms, 40 ms
	add("spike", 40, 1, 10*time.Microsecond, 60*time.Millisecond)                       // 60.39 ms, 1.5 ms
	add("wrong", 10, 5, time.Microsecond, time.Microsecond)                             // 10 us, 1 us
	add("tied b", 3, 2, 2*time.Millisecond, 2*time.Millisecond)                         // 6 ms, 2 ms
	add("tied a", 3, 2, 2*time.Millisecond, 2*time.Millisecond)                         // the same
	spans = append(spans, Observation{xpay, "s", "tied c", 6 * time.Millisecond, true}) // 6 ms, 6 ms, but once
	for _, tc := range []struct {
		key  SortKey
		want string
	}{
		{"", "long,spike,many,tied a,tied b,tied c,wrong"},
		{SortTotal, "long,spike,many,tied a,tied b,tied c,wrong"},
		{SortCount, "many,spike,wrong,tied a,tied b,long,tied c"},
		{SortAvg, "long,tied c,tied a,tied b,spike,many,wrong"},
		{SortMax, "spike,long,tied c,tied a,tied b,many,wrong"},
		{SortErrors, "wrong,tied a,tied b,spike,tied c,many,long"},
		{"unheard of", "long,spike,many,tied a,tied b,tied c,wrong"},
	} {
		t.Run(string(tc.key), func(t *testing.T) {
			var got []string
			for _, o := range observe(spans).Operations(Query{Limit: 20, Sort: tc.key}, showAll) {
				got = append(got, o.Detail)
			}
			if s := strings.Join(got, ","); s != tc.want {
				t.Errorf("got %s, want %s", s, tc.want)
			}
		})
	}
}

func TestEverySortKeyHasItsOwnColumn(t *testing.T) {
	row := Operation{TotalMS: 1, Count: 2, AvgUS: 3, P99US: 4, MaxUS: 5, Errors: 6}
	want := map[SortKey]float64{SortTotal: 1, SortCount: 2, SortAvg: 3, SortP99: 4, SortMax: 5, SortErrors: 6}
	if len(SortKeys) != len(want) || SortKeys[0] != SortTotal {
		t.Errorf("the keys are %v", SortKeys)
	}
	for _, key := range SortKeys {
		if got := key.of(&row); got != want[key] {
			t.Errorf("%s sorts by %v, want %v", key, got, want[key])
		}
	}
}

func TestMatchAndLimit(t *testing.T) {
	const (
		update    = "lightningd/db_exec_prepared/UPDATE channels"
		served    = "lightningd/lightningd/jsonrpc/getroutes"
		routes    = "cln-xpay/jsonrpc/getroutes"
		injection = "cln-xpay/jsonrpc/injectpaymentonion"
		tip       = "lightningd/extend_tip/"
	)
	for _, tc := range []struct {
		name string
		q    Query
		want []string
	}{
		{"all", Query{Limit: 20}, []string{routes, served, update, tip, injection}},
		{"no limit to speak of", Query{Limit: 1 << 40}, []string{routes, served, update, tip, injection}},
		{"exactly as many", Query{Limit: 5}, []string{routes, served, update, tip, injection}},
		{"two", Query{Limit: 2}, []string{routes, served}},
		{"none", Query{Limit: 0}, nil},
		{"fewer than none", Query{Limit: -1}, nil},
		{"process", Query{Limit: 20, Match: "xpay"}, []string{routes, injection}},
		{"process, in capitals", Query{Limit: 20, Match: "CLN-XPAY"}, []string{routes, injection}},
		{"span", Query{Limit: 20, Match: "tip"}, []string{tip}},
		{"detail", Query{Limit: 20, Match: "getRoutes"}, []string{routes, served}},
		{"detail in capitals", Query{Limit: 20, Match: "update"}, []string{update}},
		{"process, span or detail", Query{Limit: 20, Match: "jsonrpc"}, []string{routes, served, injection}},
		{"the limit is of those that match", Query{Limit: 1, Match: "JSONRPC"}, []string{routes}},
		{"not across process and span", Query{Limit: 20, Match: "xpayjson"}, nil},
		{"nothing", Query{Limit: 20, Match: "nothing"}, nil},
		{"no pattern", Query{Limit: 20, Match: "."}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := names(observe(observed).Operations(tc.q, showAll)); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestResetStartsAnewAfterTheAnswer(t *testing.T) {
	table := observe(observed)
	if got := table.Operations(Query{Limit: 1, Match: "tip", Reset: true}, showAll); len(got) != 1 {
		t.Errorf("the answer to a reset is %+v", got)
	}
	// Those that the answer did not show are gone as well.
	if got := table.Operations(Query{Limit: 20}, showAll); len(got) != 0 {
		t.Errorf("after it there are %+v", got)
	}
	if got := table.Processes(); len(got) != 2 || got[0].Spans != 5 {
		t.Errorf("the processes were reset to %+v", got)
	}
	table.Observe(observed[:1], start)
	if got := table.Operations(Query{Limit: 20}, showAll); len(got) != 1 || got[0].Count != 1 || got[0].MaxUS != 100 {
		t.Errorf("the first after it is %+v", got)
	}
}

func TestNoSpanIsLostOrCountedTwiceBetweenResets(t *testing.T) {
	const writers, rounds = 3, 400
	table := NewOperations()
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for range rounds {
				table.Observe(observed, start)
			}
		})
	}
	finished := make(chan struct{})
	go func() { writing.Wait(); close(finished) }()
	var got uint64
	count := func() {
		for _, o := range table.Operations(Query{Limit: MaxOperations, Reset: true}, showAll) {
			got += o.Count
		}
	}
	for done := false; !done; {
		select {
		case <-finished:
			done = true
		default:
		}
		count()
	}
	if want := uint64(writers * rounds * len(observed)); got != want {
		t.Errorf("the answers together have %d spans, want %d", got, want)
	}
}

func TestOperationsBeyondTheCapAreCountedTogether(t *testing.T) {
	const beyond = 500
	table := NewOperations()
	var want Operation // of everything
	for i := range MaxOperations + beyond {
		s := Observation{lightningd, "jsonrpc", fmt.Sprint("forged", i), time.Duration(i) * time.Microsecond, i%7 == 0}
		for range 1 + i%2 {
			table.Observe([]Observation{s}, start)
			want.Count++
			want.TotalMS += float64(i) / 1000
			if s.Failed {
				want.Errors++
			}
		}
	}
	list := table.Operations(Query{Limit: 2 * MaxOperations}, showAll)
	if len(list) != MaxOperations+1 {
		t.Errorf("%d operations, want %d and the one for the others", len(list), MaxOperations)
	}
	var got Operation
	var others []Operation
	for _, o := range list {
		got.Count, got.Errors, got.TotalMS = got.Count+o.Count, got.Errors+o.Errors, got.TotalMS+o.TotalMS
		if o.Detail == "(other)" {
			others = append(others, o)
		}
	}
	if got.Count != want.Count || got.Errors != want.Errors || fmt.Sprintf("%.3f", got.TotalMS) != fmt.Sprintf("%.3f", want.TotalMS) {
		t.Errorf("together they are %+v, want %+v", got, want)
	}
	if len(others) != 1 || others[0].Process != "" || others[0].Span != "" || others[0].Count != beyond+beyond/2 || others[0].MaxUS != MaxOperations+beyond-1 {
		t.Errorf("the others are %+v", others)
	}

	// One that has a row keeps it; after a reset there is room again.
	first := Observation{lightningd, "jsonrpc", "forged0", time.Hour, false}
	table.Observe([]Observation{first}, start)
	if top := table.Operations(Query{Limit: 1, Sort: SortMax, Reset: true}, showAll); len(top) != 1 || top[0].Detail != "forged0" || top[0].Count != 2 {
		t.Errorf("an early operation came to %+v", top)
	}
	table.Observe([]Observation{{lightningd, "jsonrpc", "new", 0, false}}, start)
	if got := names(table.Operations(Query{Limit: 20}, showAll)); !slices.Equal(got, []string{"lightningd/jsonrpc/new"}) {
		t.Errorf("after a reset there are %q", got)
	}
}

func TestProcesses(t *testing.T) {
	table := observe(observed)
	table.Observe([]Observation{
		{xpay, "jsonrpc", "getroutes", 0, true},
		{identity("pay", 9), "jsonrpc", "pay", 0, false},
		{identity("pay", 8), "jsonrpc", "pay", 0, false},
		{identity("autoclean", 10), "jsonrpc", "pay", 0, true},
	}, after(1999*time.Millisecond).In(time.FixedZone("elsewhere", 3600)))
	later := after(time.Second) // whole seconds, UTC
	want := []Process{
		{"cln-xpay", 3140, 5, 4, later},
		{"lightningd", 3115, 5, 0, start},
		{"autoclean", 10, 1, 1, later},
		{"pay", 8, 1, 0, later},
		{"pay", 9, 1, 0, later},
	}
	if got := table.Processes(); !slices.Equal(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

func TestProcessNotSeenForTheLongestTimeIsForgotten(t *testing.T) {
	table := NewOperations()
	ids := make([]*process.Identity, maxProcesses+2)
	for i := range ids {
		ids[i] = identity("pay", int32(i))
	}
	see := func(id *process.Identity, at time.Duration) {
		table.Observe([]Observation{{id, "jsonrpc", "pay", 0, false}}, after(at))
	}
	for i, id := range ids[:maxProcesses] {
		see(id, time.Duration(i)*time.Second)
	}
	see(ids[0], time.Hour) // so the next one is the oldest
	see(ids[maxProcesses], time.Hour)
	see(ids[maxProcesses+1], time.Hour)
	kept := make(map[int32]uint64)
	for _, p := range table.Processes() {
		kept[p.PID] = p.Spans
	}
	if len(kept) != maxProcesses {
		t.Errorf("%d processes are remembered, want %d", len(kept), maxProcesses)
	}
	for pid, want := range map[int32]uint64{0: 2, 1: 0, 2: 0, 3: 1, maxProcesses: 1, maxProcesses + 1: 1} {
		if kept[pid] != want {
			t.Errorf("process %d has %d spans, want %d", pid, kept[pid], want)
		}
	}
	if got := table.Operations(Query{Limit: 1}, showAll); got[0].Count != maxProcesses+3 {
		t.Errorf("the operation of the forgotten ones has %d spans", got[0].Count)
	}
}

func TestEmptyTablesAreEmptyListsInJSON(t *testing.T) {
	table := NewOperations()
	for _, list := range []any{table.Processes(), table.Operations(Query{Limit: 20}, showAll), observe(observed).Operations(Query{}, showAll)} {
		if text, err := json.Marshal(list); err != nil || string(text) != "[]" {
			t.Errorf("got %s (%v)", text, err)
		}
	}
}

func TestConcurrentObserversAndReaders(t *testing.T) {
	table := NewOperations()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 200 {
				table.Observe(observed, start)
			}
		})
		all.Go(func() {
			for range 200 {
				list := table.Operations(Query{Limit: 20, Sort: SortErrors}, showAll)
				if !slices.IsSortedFunc(list, func(a, b Operation) int { return cmp.Compare(b.Errors, a.Errors) }) {
					t.Errorf("not sorted: %+v", list)
				}
				table.Processes()
			}
		})
	}
	all.Wait()
	if got := table.Processes(); len(got) != 2 || got[0].Spans+got[1].Spans != uint64(600*len(observed)) {
		t.Errorf("the processes are %+v", got)
	}
}

func BenchmarkObserve(b *testing.B) {
	table := NewOperations()
	b.ReportAllocs()
	for b.Loop() {
		table.Observe(observed, start)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(observed)), "ns/span")
}

// Payments and forwards have rows of their own, count for no sender, and do not take
// the place of other operations.
func TestPaymentsAreOperations(t *testing.T) {
	table := NewOperations()
	sender := &process.Identity{Name: "lightningd"}
	var many []Observation
	for i := range 2 * MaxOperations {
		many = append(many, Observation{Process: sender, Span: "forward", Detail: fmt.Sprint(i), Duration: time.Second})
	}
	table.ObservePayments(many)
	table.Observe([]Observation{{Process: sender, Span: "db_exec_prepared", Detail: "UPDATE channels"}}, time.Now())
	rows := table.Operations(Query{Limit: 3 * MaxOperations}, showAll)
	if len(rows) != MaxOperations+2 { // all others, and the statement
		t.Errorf("%d rows", len(rows))
	}
	if got := table.Operations(Query{Limit: 10, Match: "UPDATE channels"}, showAll); len(got) != 1 || got[0].Count != 1 {
		t.Errorf("the statement: %+v", got)
	}
	if p := table.Processes(); len(p) != 1 || p[0].Spans != 1 {
		t.Errorf("senders: %+v", p)
	}
}

// showAll hides nothing.
func showAll(string, string) bool { return false }

// What may not be shown any more can neither be found nor counted.
func TestHiddenOperations(t *testing.T) {
	hides := func(_, detail string) bool { return detail == "UPDATE channels" }
	table := observe(observed)
	if all, shown := table.Operations(Query{Limit: 20}, showAll), table.Operations(Query{Limit: 20}, hides); len(shown) != len(all)-1 {
		t.Errorf("%d rows of %d", len(shown), len(all))
	}
	if got := table.Operations(Query{Limit: 20, Match: "update"}, hides); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}
