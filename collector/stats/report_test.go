package stats

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/text"

	"clntrace/collector/payments"
)

// example is the report that the contract shows.
func example() Report {
	return Report{
		Version: "0.1.0", UptimeSeconds: 86400, Status: StatusOK,
		Warnings: []string{
			"The kernel's queue holds 11 datagrams and was full 14 times: spans were lost before clntrace could see them. " +
				"Run 'sysctl -w net.unix.max_dgram_qlen=512' and restart clntrace.",
		},
		Socket:    Socket{Path: "/run/cln/trace.sock", State: "listening", QueueLimit: 10, QueueFullEvents: 14, LargestDatagram: 2017},
		Datagrams: Datagrams{Received: 91300, Bytes: 27000000, Malformed: 3, Accepted: 91297},
		Spans:     Spans{Exported: 91000, Pending: 297, Truncated: 4, Repaired: 4, MissingParents: 32, RatePerSecond: 12.5},
		Export: Export{
			Endpoint: "http://localhost:4317", Protocol: "grpc", State: "connected", Batches: 180, Retries: 2, LastSuccess: &start, AvgMS: 3.1, P99MS: 12,
		},
		Processes: []Process{{Name: "lightningd", PID: 3115, Spans: 81191, LastSeen: start}},
		Operations: []Operation{{
			Process: "lightningd", Span: "db_exec_prepared", Detail: "UPDATE channels",
			Count: 44917, TotalMS: 12000.5, AvgUS: 267.2, P50US: 180, P90US: 420, P99US: 2100, MaxUS: 95000,
		}},
	}
}

// The names, units and order of the JSON form are a contract, so -update
// leaves this file alone.
func TestReportInJSON(t *testing.T) {
	want, err := os.ReadFile("testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(example(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if s := strings.TrimSpace(string(want)); string(got) != s {
		t.Errorf("got\n%s\nwant\n%s", got, s)
	}
}

func TestReportComesBackFromJSON(t *testing.T) {
	in := example()
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Report
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(in, out) {
		t.Errorf("got %+v, want %+v", out, in)
	}
}

func TestNoSuccessYetIsNullInJSON(t *testing.T) {
	text, err := json.Marshal(Export{})
	if err != nil || !strings.Contains(string(text), `"last_success":null`) {
		t.Errorf("got %s (%v)", text, err)
	}
}

func TestPaymentsInJSON(t *testing.T) {
	r := Report{Payments: &payments.State{Parts: 1, Failed: 2, Open: 3, OldestOpenSeconds: 4, Forwards: 5, ForwardsOpen: 6, ForwardsFailed: 7, Unjoined: 8, Dropped: 9}}
	text, err := json.Marshal(r)
	want := `"payments":{"parts":1,"failed":2,"open":3,"oldest_open_seconds":4,"forwards":5,"forwards_open":6,"forwards_failed":7,"unjoined":8,"dropped":9}`
	if err != nil || !strings.Contains(string(text), want) {
		t.Errorf("got %s, %v", text, err)
	}
	if text, err := json.Marshal(Report{}); err != nil || strings.Contains(string(text), "payments") {
		t.Errorf("without notifications: %s, %v", text, err)
	}
}

// busy is a node with all there is to say, nothing of it by a stranger.
func busy() Report {
	r := example()
	r.Status = StatusBackendUnreachable
	r.UptimeSeconds = 3*86400 + 5*3600 + 42*60 + 31
	r.Warnings = append(r.Warnings,
		"http://collector.example.org:4317 has not taken spans since 2026-11-22T04:29:00Z: connection refused. They wait; start the endpoint or correct clntrace-otlp-endpoint.")
	r.Datagrams = Datagrams{Received: 91308, Bytes: 27000000, Refused: 5, Malformed: 3, Accepted: 91300}
	r.Spans = Spans{
		Exported: 90000, Pending: 297, Spooled: 512, SampledOut: 100, Filtered: 200, DroppedQueueFull: 150, DroppedSpoolFull: 40,
		RejectedByBackend: 13, Synthesized: 12, Truncated: 4, Repaired: 3, MissingParents: 32, RatePerSecond: 12.55,
	}
	r.Export.State, r.Export.LastError = "unreachable", "dial tcp 203.0.113.7:4317: connect: connection refused"
	r.Processes = []Process{
		{"lightningd", 3115, 81191, 0, start}, {"cln-askrene", 3140, 4007, 1, start}, {"pay", 3137, 3000, 2, start}, {"cln-xpay", 3139, 2000, 0, start},
		{"pay", 4900, 102, 0, start}, {"bookkeeper", 3120, 900, 0, start}, {"chanbackup", 3121, 100, 0, start},
	}
	r.Payments = &payments.State{
		Parts: 120, Failed: 31, Open: 2, OldestOpenSeconds: 4000, Forwards: 7000, ForwardsOpen: 1, ForwardsFailed: 512, Unjoined: 3, Dropped: 4,
	}
	r.Requests = Requests{Paired: 210, WaitAvgMS: 0.121, WaitP99MS: 15.3, Writes: 12, AnswerAvgMS: 4.45, AnswerP99MS: 8.9}
	r.Operations = []Operation{
		{Process: "lightningd", Span: "db_exec_prepared", Detail: "UPDATE channels", Count: 44917, TotalMS: 12000.5, AvgUS: 267.2, MaxUS: 95000},
		{Process: "lightningd", Span: "db_query_prepared", Detail: "SELECT channels peers channel_funding_inflights", Count: 3, TotalMS: 4.2, AvgUS: 1400, MaxUS: 1990},
		{Process: "lightningd", Span: "plugin/bitcoind", Detail: "getrawblockbyheight", Count: 310, Errors: 2, TotalMS: 99999, AvgUS: 322577, MaxUS: 61_000_000},
		{Process: "lightningd", Span: "lightningd/jsonrpc", Detail: "listpeerchannels", Count: 7, TotalMS: 0.7, AvgUS: 100, MaxUS: 130},
		{Process: "cln-xpay", Span: "jsonrpc", Detail: "injectpaymentonion", Count: 200, Errors: 200, TotalMS: 61_234.5, AvgUS: 306172.5, MaxUS: 950_000,
			Paired: 198, WaitAvgUS: 120, WaitP99US: 15_300, WorkAvgUS: 1016, AnswerAvgUS: 304_900},
		{Process: "cln-askrene", Span: "jsonrpc", Detail: "datastore", Count: 12, TotalMS: 61, AvgUS: 5100, MaxUS: 9500,
			Paired: 12, WaitAvgUS: 150, WaitP99US: 900, WorkAvgUS: 500, AnswerAvgUS: 4450},
		{Process: "lightningd", Span: "forward downstream", Detail: "850000x1234x1 temporary_channel_failure", Count: 31, Errors: 31, TotalMS: 9000, AvgUS: 290_000, MaxUS: 900_000},
		{Process: "cln-xpay", Span: "payment part", Detail: "850000x1234x1 success", Count: 89, TotalMS: 9000, AvgUS: 101_000, MaxUS: 900_000},
		{Process: "recklessrpc-of-someone", Span: "jsonrpc", Detail: "listconfigs", Count: 1, TotalMS: 0.05, AvgUS: 50, MaxUS: 50},
		{Process: "lightningd", Span: "extend_tip", Count: 1_234_567, TotalMS: 7_200_000, AvgUS: 5832, MaxUS: 7_199_000_000},
		{Process: "lightningd", Span: "lightningd/startup", Count: 1, TotalMS: 260.1, AvgUS: 260_100, MaxUS: 260_100},
		{Detail: "(other)", Count: 12, Errors: 3, TotalMS: 0.0004, AvgUS: 0.04, MaxUS: 0},
	}
	for i := range r.Operations {
		o := &r.Operations[i]
		o.P50US, o.P90US, o.P99US = o.AvgUS*2/3, o.AvgUS*2, min(o.AvgUS*8, float64(o.MaxUS))
	}
	return r
}

// hostile is a report with what only a sender who means no good, or years of
// running, would bring about.
func hostile() Report {
	r := busy()
	const most = 1<<64 - 1
	long := strings.Repeat("abcdefghij", 30)
	r.Version = "0.1.0-rc.1+20261122.dirty"
	r.UptimeSeconds = 1 << 33
	r.Warnings = []string{
		long, "", "  ", "two\nlines\n\nand\ttabs\r\n", "<b>bold</b> & \x1b[31mred\x1b[0m", strings.Repeat("日本語", 40), "a" + strings.Repeat("日本語", 40),
		"\x00\x7f\u0085\u202e\ufffd not UTF-8: \xff\xfe", strings.Repeat("word ", 100), "e\u0301\u200b\U0001F600",
	}
	r.Socket.Path = "/tmp/<" + long + ">"
	r.Socket.QueueFullEvents = most
	for _, counts := range []reflect.Value{reflect.ValueOf(&r.Datagrams).Elem(), reflect.ValueOf(&r.Spans).Elem()} {
		for i := range counts.NumField() {
			if f := counts.Field(i); f.CanUint() {
				f.SetUint(most)
			}
		}
	}
	r.Spans.RatePerSecond = 1e300
	r.Export.Endpoint, r.Export.LastError = "https://"+long, "<html>&nbsp;\n"+strings.Repeat("日", 200)
	r.Export.AvgMS, r.Export.P99MS = most, most
	r.Processes = append(r.Processes, Process{Name: long + "\n<&>", Spans: most}, Process{Name: "日本\x1b[31m語"}, Process{})
	for _, name := range []string{long, "日本語日本語日本語日本語日本語日本語日本語", "<&>", "a\nb\tc\x1b[31md\x7f", "\xff\xfe", "…", "\u202e\u200b", ""} {
		r.Operations = append(r.Operations,
			Operation{Process: name, Span: "jsonrpc", Detail: name, Count: most, Errors: most, TotalMS: most / 1000, AvgUS: most, P50US: most, P99US: most, MaxUS: most},
			Operation{Process: name, Span: name, Detail: "", Count: 1, AvgUS: 1},
			Operation{Process: "x" + name, Span: "db_" + name, Detail: "x" + name, Count: 10_000_000, Errors: 9_999_999, TotalMS: 9_999_949, MaxUS: 999_994_999},
		)
	}
	return r
}

func degraded() Report {
	return Report{
		Version: "0.1.0", UptimeSeconds: 61, Status: StatusDegraded,
		Warnings: []string{
			"No span can be received: the trace socket /run/cln/trace.sock is taken, another process is listening on it; stop it, or set CLN_TRACE_SOCKET to another path.",
		},
		Socket: Socket{Path: "/run/cln/trace.sock", State: "not listening"},
		Export: Export{Endpoint: "http://localhost:4317", Protocol: "grpc", State: "waiting"},
	}
}

var reports = []struct {
	name   string
	report Report
}{
	{"busy", busy()},
	{"empty", Report{Version: "0.1.0", Status: StatusOK, Socket: Socket{State: "not listening"}}},
	{"degraded", degraded()},
	{"off", Report{Version: "0.1.0", Status: StatusOK, UptimeSeconds: 3601, Socket: Socket{Path: "t", State: "listening"}, Export: Export{Endpoint: "off", State: "off"}}},
	{"unmatched", Report{Version: "0.1.0", Status: StatusOK, Match: "expay", Socket: Socket{Path: "t", State: "listening"}, Export: Export{Endpoint: "off", State: "off"}}},
	{"hostile", hostile()},
	{"hostile match", Report{Version: "0.1.0", Match: "<\x1b[31m\"\\\n" + strings.Repeat("日本語", 40)}},
}

func TestTables(t *testing.T) {
	for _, tc := range reports {
		if strings.HasPrefix(tc.name, "hostile") {
			continue // how it looks is of no matter
		}
		t.Run(tc.name, func(t *testing.T) {
			got := tableOf(t, tc.report)
			golden := filepath.Join("testdata", tc.name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Whatever is in a report, its table is lines of plain text of 80 columns.
func TestTablesFitTheTerminal(t *testing.T) {
	for _, tc := range reports {
		t.Run(tc.name, func(t *testing.T) {
			table := tableOf(t, tc.report)
			if !strings.HasSuffix(table, "\n") {
				t.Error("the last line is not ended")
			}
			for i, line := range strings.Split(strings.TrimSuffix(table, "\n"), "\n") {
				if width := text.StringWidth(line); width > 80 {
					t.Errorf("line %d has %d columns: %q", i+1, width, line)
				}
				if strings.TrimRightFunc(line, unicode.IsSpace) != line {
					t.Errorf("line %d ends in blanks: %q", i+1, line)
				}
				for _, r := range line {
					if !unicode.IsPrint(r) {
						t.Errorf("line %d has %U: %q", i+1, r, line)
					}
				}
			}
		})
	}
}

func tableOf(t *testing.T, r Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTableReportsAFailedWrite(t *testing.T) {
	if err := busy().WriteTable(full{}); err != errFull {
		t.Errorf("got %v, want %v", err, errFull)
	}
}

type full struct{}

var errFull = os.ErrClosed

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestTimesInTables(t *testing.T) {
	for _, tc := range []struct {
		ms   float64
		want string
	}{
		{0, "0us"}, {0.0004, "0us"}, {0.001, "1us"}, {0.267, "267us"}, {0.9994, "999us"}, {0.9996, "1.0ms"}, {1, "1.0ms"},
		{9.94, "9.9ms"}, {9.96, "10ms"}, {999.4, "999ms"}, {999.6, "1.0s"}, {60_000, "60s"},
		{9_999_499, "9999s"}, {9_999_501, "2.8h"}, {24 * 3_600_000, "24h"}, {9999.4 * 3_600_000, "9999h"},
		{10_001 * 3_600_000, "1.1y"}, {9_999 * 8760 * 3_600_000, "9999y"}, {1 << 64 / 1000, "585ky"},
	} {
		if got := ms(tc.ms); got != tc.want {
			t.Errorf("%v ms is shown as %s, want %s", tc.ms, got, tc.want)
		}
	}
}

func TestNumbersInTables(t *testing.T) {
	for _, tc := range []struct {
		n    uint64
		want string
	}{
		{0, "0"},
		{44_917, "44917"},
		{999_999, "999999"},
		{1_000_000, "1.0M"},
		{999_949_999, "999.9M"},
		{999_950_000, "1.0G"},
		{45_100_000_000, "45.1G"},
		{1_000_000_000_000, "1.0T"},
		{1<<64 - 1, "18.4E"},
	} {
		if got := number(tc.n); got != tc.want {
			t.Errorf("%d is shown as %s, want %s", tc.n, got, tc.want)
		}
	}
}

func TestSendersInTables(t *testing.T) {
	many := Report{}
	for i := range 1000 {
		many.Processes = append(many.Processes, Process{Name: strings.Repeat("x", i), PID: int32(i), Spans: 1})
	}
	line := many.processesLine()
	if !strings.HasSuffix(line, ", and 992 more") || len(line) > 3000 {
		t.Errorf("a thousand senders are shown in %d bytes: %s", len(line), line)
	}
	few := Report{Processes: []Process{{Name: "pay", Spans: 3}, {Name: "sql", Spans: 2}, {Name: "pay", Spans: 1}}}
	if got, want := few.processesLine(), "pay 4, sql 2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A table of all operations, whose names take two lines each, takes no longer than
// somebody waits for it: it took 8 s of CPU time when each line looked at all others.
func TestLargeTableIsQuick(t *testing.T) {
	var r Report
	for i := range MaxOperations {
		r.Operations = append(r.Operations, Operation{Process: "lightningd", Span: "lightningd/jsonrpc", Detail: fmt.Sprint(strings.Repeat("word ", 20), i), Count: 1})
	}
	began := time.Now()
	var table strings.Builder
	if err := r.WriteTable(&table); err != nil || strings.Count(table.String(), "\n") < 2*MaxOperations {
		t.Errorf("%d lines, %v", strings.Count(table.String(), "\n"), err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}
