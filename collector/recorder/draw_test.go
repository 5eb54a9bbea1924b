package recorder

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// shown is what write writes, after a check that a terminal of 80 columns can show it.
func shown(t testing.TB, write func(*strings.Builder) error) string {
	t.Helper()
	var b strings.Builder
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if len(line) > tableWidth {
			t.Errorf("a line of %d columns: %q", len(line), line)
		}
		for _, c := range []byte(line) {
			if c < ' ' || c > '~' {
				t.Fatalf("%q is in %q", c, line)
			}
		}
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", file, got)
	}
}

// TestTablesOfStart compares the list and the tree of a start with what they were when
// somebody looked at them.
func TestTablesOfStart(t *testing.T) {
	r := New(16 << 20)
	now := play(r, decoded(t, recordings(t)["startup"]))
	list := r.List(Query{Limit: 20}, nil, now)
	list.Recorder.Bytes = 0 // differs between machines
	tr, _, err := r.Find(list.Traces[0].TraceID[:8], now)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "startup", shown(t, func(b *strings.Builder) error {
		if err := list.WriteTable(b); err != nil {
			return err
		}
		b.WriteByte('\n')
		return tr.WriteTable(b)
	}))
}

// payment is a payment in three parts, of which one failed, one succeeded and one is
// of a request whose waits are known.
func payment() *Trace {
	us := func(n int64) *int64 { return &n }
	part := func(id string, number, offset, duration int64, status string, more map[string]any) TraceSpan {
		s := TraceSpan{
			SpanID: id, ParentID: "1", Process: "cln-xpay", Span: "jsonrpc", Detail: "injectpaymentonion",
			OffsetUS: offset, DurationUS: duration, Status: status,
			Attributes: map[string]any{
				keyPart: number, keyHops: int64(2), keyAmount: int64(5_000_000), keyFee: int64(51),
				keyRoute: []string{"103x1x0/1", "103x2x0/0"},
			},
		}
		for key, value := range more {
			s.Attributes[key] = value
		}
		s.ErrorType = s.text(keyErrorType)
		return s
	}
	waited := part("4", 3, 4000, 300_000, StatusOK, nil)
	waited.WaitUS, waited.WorkUS = us(2100), us(353)
	return &Trace{
		Summary: Summary{
			TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", StartedAt: noon, DurationMS: 310, Process: "cln-xpay",
			Span: "request", Detail: "xpay", Status: StatusOK, Spans: 7, Errors: 1, PaymentHash: strings.Repeat("0f", 32),
			Kept: []string{KeptSlowest},
		},
		Spans: []TraceSpan{
			{SpanID: "1", Process: "cln-xpay", Span: "request", Detail: "xpay", DurationUS: 310_000, Status: StatusOK},
			part("2", 1, 2000, 120_000, StatusFailed, map[string]any{
				keyErrorType: "temporary_channel_failure", keyFailedHop: int64(1), keyFailedChannel: "103x2x0/0",
			}),
			part("3", 2, 3000, 200_000, StatusOK, nil),
			waited,
			{SpanID: "5", ParentID: "4", Process: "lightningd", Span: "lightningd/jsonrpc", Detail: "injectpaymentonion", OffsetUS: 6100, DurationUS: 353, Status: StatusOK},
			{SpanID: "6", ParentID: "5", Process: "lightningd", Span: "db_exec_prepared", Detail: "INSERT channel_htlcs", OffsetUS: 6200, DurationUS: 90, Status: StatusOK},
			{SpanID: "7", ParentID: "gone", Process: "lightningd", Span: "db_exec_prepared", Detail: "UPDATE vars", OffsetUS: 300_000, DurationUS: 500, Status: StatusOK},
		},
	}
}

func TestPayment(t *testing.T) {
	golden(t, "payment", shown(t, func(b *strings.Builder) error { return payment().WriteTable(b) }))
}

// TestDeep shows a chain of spans that is deeper than a terminal is wide, and one of
// spans whose parents are in a circle.
func TestDeep(t *testing.T) {
	deep := &Trace{Summary: Summary{TraceID: "d", StartedAt: noon, DurationMS: 1000}}
	for i := range 200 {
		parent := fmt.Sprint(i - 1)
		if i == 0 {
			parent = ""
		}
		deep.Spans = append(deep.Spans, TraceSpan{SpanID: fmt.Sprint(i), ParentID: parent, Span: fmt.Sprint("level ", i), OffsetUS: int64(i), DurationUS: 1e6 - int64(2*i)})
	}
	got := shown(t, func(b *strings.Builder) error { return deep.WriteTable(b) })
	if !strings.Contains(got, "level 199") || strings.Count(got, "level") != 200 {
		t.Errorf("levels are missing:\n%s", got)
	}
	deep.Spans[0].ParentID = "199"
	got = shown(t, func(b *strings.Builder) error { return deep.WriteTable(b) })
	if !strings.Contains(got, "level") {
		t.Errorf("nothing is shown of a circle:\n%s", got)
	}
}

func TestListTexts(t *testing.T) {
	hostile := Summary{TraceID: "\x1b[2J\u202e<b>", StartedAt: noon, DurationMS: 1e15, Process: "\x1b]0;x\a", Span: strings.Repeat("w", 300), Spans: 1 << 40, Errors: 1e7, ErrorType: "\n\n\r"}
	for name, tc := range map[string]struct {
		list List
		want string
	}{
		"empty":    {List{Recorder: Status{LimitBytes: 16 << 20}}, "Kept: 0 traces of 0 spans, 0.0 of 16 MiB\n"},
		"no match": {List{Query: Query{Match: "\x1b[31mxyz"}}, "No trace has '?[31mxyz' in process"},
		"none":     {List{Query: Query{Sort: SortFailed}}, "No trace that is kept has failed."},
		"not open": {List{Query: Query{Sort: SortOpen}}, "Nothing is open."},
		"open": {
			List{Traces: []Summary{{TraceID: "aabbccdd00", StartedAt: noon, DurationMS: 12_345, Process: "cln-xpay", Detail: "xpay", Status: StatusOpen, WaitsFor: "part 2"}}, Query: Query{Sort: SortOpen}},
			"11-25 UTC trace    so far  what\n12:00:00  aabbccdd  12.3s  cln-xpay xpay, waiting for part 2\n",
		},
		"two days": {List{Traces: []Summary{{StartedAt: noon}, {StartedAt: noon.Add(12 * time.Hour)}}}, "\n11-25 12:00:00 "},
		"evicted":  {List{Recorder: Status{Evicted: 3}}, "; 3 had to make room"},
		"long reason": {
			List{Traces: []Summary{
				{TraceID: "aabbccdd00", StartedAt: noon, DurationMS: 12_345, Process: "cln-xpay", Detail: "xpay", ErrorType: "temporary_channel_failure", Spans: 23, Errors: 2},
				{TraceID: "aabbccdd00", StartedAt: noon, DurationMS: 12_345, Process: "cln-xpay", Detail: "xpay", ErrorType: "incorrect_or_unknown_payment_details", Spans: 23, Errors: 2},
				{TraceID: "aabbccdd00", StartedAt: noon, DurationMS: 12_345, Process: "a-plugin-of-somebody", Detail: strings.Repeat("method", 20), WaitsFor: strings.Repeat("m", 60), Spans: 1},
			}},
			"" +
				"12:00:00  aabbccdd  12.3s    23    2  cln-xpay     xpay:\n" +
				"                                                   temporary_channel_failure\n" +
				"12:00:00  aabbccdd  12.3s    23    2  cln-xpay     xpay:\n" +
				"                                           incorrect_or_unknown_payment_details\n" +
				"12:00:00  aabbccdd  12.3s     1       a-plugin-of~ methodmethodmethodmethodme~,\n" +
				"       waiting for " + strings.Repeat("m", 60) + "\n",
		},
		"hostile": {List{Traces: []Summary{hostile}, More: 3}, "And 3 more."},
	} {
		t.Run(name, func(t *testing.T) {
			if got := shown(t, func(b *strings.Builder) error { return tc.list.WriteTable(b) }); !strings.Contains(got, tc.want) {
				t.Errorf("got:\n%swant: %q", got, tc.want)
			}
		})
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0us", time.Microsecond: "1us", 999 * time.Microsecond: "999us", 1234 * time.Microsecond: "1.23ms",
		99960 * time.Microsecond: "100ms", 999600 * time.Microsecond: "1.00s", 12345 * time.Millisecond: "12.3s",
		59960 * time.Millisecond: "60.0s", 61 * time.Second: "1m01s", 90 * time.Minute: "1h30m", 49 * time.Hour: "2d01h",
		200 * 24 * time.Hour: "200d", 200 * 365 * 24 * time.Hour: "200y",
		-1234 * time.Microsecond: "-1.2ms", -12345 * time.Microsecond: "-12ms", -999 * time.Microsecond: "-999us", -12 * time.Second: "-12s",
	} {
		if got := span(d); got != want || len(got) > timeWidth {
			t.Errorf("%d: got %q, want %q", d, got, want)
		}
	}
}

// FuzzText shows names and values of any bytes.
func FuzzText(f *testing.F) {
	f.Add("lightningd", "jsonrpc", "xpay", "no_route", int64(1), int64(100), uint8(3))
	f.Add("\x1b[2J", "\u202eabc", "\xff\xfe", strings.Repeat("x ", 200), int64(-5), int64(1<<60), uint8(40))
	f.Add("\x1f", "request", "<b>&", "\n", int64(0), int64(0), uint8(0))
	f.Fuzz(func(t *testing.T, process, name, detail, value string, start, duration int64, n uint8) {
		feed := newFeed(1 << 20)
		id := feed.traceID()
		in := Span{
			TraceID: id, ID: spanID(1), Process: process, Name: name, Detail: detail, Start: start % (1 << 60), Duration: max(duration, 0) % (1 << 60), Failed: n%2 == 0,
			Attributes: tags{
				attribute.String(keyErrorType, value), attribute.StringSlice(keyRoute, []string{value, name}), attribute.Int64(keyPart, start),
				attribute.Float64(keyWait, float64(duration)), attribute.Float64(keyWork, 1), attribute.String(keyFailedChannel, detail), attribute.String(keyPaymentHash, value),
			},
		}
		for i := range int(n) {
			c := in
			c.ID, c.Parent = spanID(i+2), spanID(i/3+1)
			feed.Add(&c, feed.now)
		}
		feed.Add(&in, feed.now)
		feed.wait(quietTime)
		list := feed.List(Query{Limit: 10}, nil, feed.now)
		shown(t, func(b *strings.Builder) error { return list.WriteTable(b) })
		tr := feed.find(t, id.String())
		if tr.Summary.Spans != int(n)+1 {
			t.Errorf("%d spans of %d", tr.Summary.Spans, int(n)+1)
		}
		shown(t, func(b *strings.Builder) error { return tr.WriteTable(b) })
	})
}

// TestConcurrently asks while spans are added; the race detector looks on.
func TestConcurrently(t *testing.T) {
	f := newFeed(1 << 20)
	var group sync.WaitGroup
	stop := make(chan struct{})
	for _, ask := range []func(){
		func() { f.List(Query{Limit: 1000}, nil, noon) },
		func() { f.Slowest(noon) },
		func() { _, _, _ = f.Find("00", noon) },
		func() { f.Status() },
	} {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					ask()
				}
			}
		})
	}
	for i := range 3000 {
		id := f.traceID()
		f.span(child(id, 2, 1, "inner", time.Second))
		f.root(fmt.Sprint("kind ", i%300), time.Second, failed("reason"))
		f.span(Span{TraceID: id, ID: spanID(1), Name: "outer"})
		if i%50 == 0 {
			f.wait(quietTime)
		}
	}
	close(stop)
	group.Wait()
	if s := f.Status(); s.Traces == 0 {
		t.Error("nothing was kept")
	}
}

// TestManyParts shows a payment in 16 parts of which each was tried twice, and looks
// for all that failed.
func TestManyParts(t *testing.T) {
	tr := payment()
	first := tr.Spans[1]
	tr.Spans = tr.Spans[:1]
	for i := range 32 {
		part := first
		part.SpanID, part.OffsetUS = fmt.Sprint("p", i), int64(i)*1000
		part.Attributes = maps.Clone(first.Attributes)
		part.Attributes[keyPart], part.Attributes[keyFailedChannel] = int64(i+1), fmt.Sprintf("103x%dx0/0", i+1)
		part.DurationUS += int64(i)
		if i >= 20 {
			part.Status, part.ErrorType = StatusOK, ""
		}
		inside := TraceSpan{SpanID: fmt.Sprint("s", i), ParentID: part.SpanID, Process: "lightningd", Span: "lightningd/jsonrpc", Detail: "injectpaymentonion", OffsetUS: part.OffsetUS, DurationUS: 100}
		tr.Spans = append(tr.Spans, part, inside)
	}
	got := shown(t, func(b *strings.Builder) error { return tr.WriteTable(b) })
	for i := range 20 {
		if !strings.Contains(got, fmt.Sprintf("|-! part %d ", i+1)) || !strings.Contains(got, fmt.Sprintf("channel 103x%dx0/0\n", i+1)) {
			t.Errorf("part %d is not shown", i+1)
		}
	}
	if strings.Count(got, "-part ") != 12 || strings.Count(got, "-injectpaymentonion") != 1 || !strings.Contains(got, "for the slowest one") {
		t.Error("more is shown than all parts and what is inside of one")
	}
	if lines := strings.Count(got, "\n"); lines > 32*2+20+10 {
		t.Errorf("it has %d lines", lines)
	}
	if t.Failed() || testing.Verbose() {
		t.Log("\n" + got)
	}
}

// TestHostileTree shows a trace whose names, process, reason, route and values are made
// up to break a terminal or to look like other rows.
func TestHostileTree(t *testing.T) {
	evil := "\x1b[2J\u202eABC\u2066\r\n|-faked 0us |====|\x9b31m\x00" + strings.Repeat("\u0301w", 3000)
	tr := payment()
	for i := range tr.Spans {
		s := &tr.Spans[i]
		s.Process, s.Span, s.Detail, s.ErrorType = evil, evil, evil, evil
		if s.Attributes != nil {
			s.Attributes[keyRoute], s.Attributes[keyFailedChannel], s.Attributes[keyAmount] = []string{evil}, evil, evil
		}
	}
	tr.Process, tr.Span, tr.Detail, tr.ErrorType, tr.PaymentHash, tr.TraceID = evil, evil, evil, evil, evil, evil
	got := shown(t, func(b *strings.Builder) error { return tr.WriteTable(b) })
	if strings.Contains(got, "\n|-faked") {
		t.Errorf("a name makes a row:\n%s", got)
	}
	if lines := strings.Count(got, "\n"); lines > 1500 {
		t.Errorf("%d lines", lines)
	}
}
