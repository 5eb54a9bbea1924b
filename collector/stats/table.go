package stats

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	tabletext "github.com/jedib0t/go-pretty/v6/text"

	"clntrace/collector/cln"
	"clntrace/collector/text"
)

const (
	tableWidth = 80 // columns of a usual terminal
	labelWidth = 9
	// textWidth is one column less than there is, because the library lets a wide
	// rune exceed the width by one.
	textWidth = tableWidth - labelWidth - 1
	// processWidth is the width of the longest common names of plugins.
	processWidth = 12
	// maxSenders bounds the senders listed, busiest first: some 30 run at once, with two
	// dozen names. maxSender is the greatest width of a name; those of lightningd have 20.
	maxSenders = 8
	maxSender  = 40
)

// WriteTable writes r as aligned text for a terminal of 80 columns: whether all is
// well, what is not, and where the time went. Its error is that of w.
func (r Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	writeParagraph(&b, "clntrace "+r.Version+": "+r.verdict())
	for _, warning := range r.Warnings {
		writeLine(&b, "  !", warning)
	}
	writeLine(&b, "socket", r.socketLine())
	writeLine(&b, "spans", r.spansLine())
	writeLine(&b, "export", r.exportLine())
	if line := r.paymentsLine(); line != "" {
		writeLine(&b, "payments", line)
	}
	if line := r.requestsLine(); line != "" {
		writeLine(&b, "requests", line)
	}
	if len(r.Processes) > 0 {
		writeLine(&b, "senders", r.processesLine())
	}
	switch {
	case len(r.Operations) > 0:
		b.WriteByte('\n')
		b.WriteString(r.operationsTable())
		b.WriteByte('\n')
		if r.MoreOperations > 0 {
			fmt.Fprintf(&b, "and %d more\n", r.MoreOperations)
		}
		if waits := r.waitsTable(); waits != "" {
			b.WriteString("\n" + waits + "\n")
		}
	case r.MoreOperations == 0 && r.Match != "":
		b.WriteByte('\n')
		writeParagraph(&b, "No operation has '"+r.Match+"' in its process, span or detail.")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict says in one line whether all is well.
func (r Report) verdict() string {
	text := string(r.Status)
	switch n := len(r.Warnings); {
	case n == 1:
		text += ", 1 warning"
	case n > 1:
		text += fmt.Sprintf(", %d warnings", n)
	case r.Status == StatusOK:
		text += ", all is well"
	}
	return text + ", up " + duration(r.UptimeSeconds)
}

func writeParagraph(b *strings.Builder, paragraph string) {
	for _, line := range wrap(paragraph, tableWidth-1) {
		b.WriteString(line + "\n")
	}
}

// writeLine writes a label and a text behind it, wrapped and indented.
func writeLine(b *strings.Builder, label, line string) {
	for i, part := range wrap(line, textWidth) {
		if i > 0 {
			label = ""
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", labelWidth, label, part), " "))
		b.WriteByte('\n')
	}
}

// wrap breaks a line at blanks.
func wrap(line string, width int) []string {
	parts := strings.Split(tabletext.WrapSoft(text.Plain(line), width), "\n")
	for i, part := range parts {
		parts[i] = strings.TrimRight(part, " ")
	}
	return parts
}

func snip(s string, width int) string { return tabletext.Snip(text.Plain(s), width, "~") }

func (r Report) socketLine() string {
	d := r.Datagrams
	line := r.Socket.State
	if r.Socket.Path != "" {
		line += " on " + r.Socket.Path
	}
	line += fmt.Sprintf("; %s, %s", text.Number(d.Received, "datagram", "datagrams"), bytes(d.Bytes))
	line += nonZero(", ", counter{d.Refused, "refused"}, counter{d.Malformed, "malformed"})
	switch {
	case r.Socket.QueueLimit > 0:
		line += fmt.Sprintf("; the kernel's queue holds %d, one more than net.unix.max_dgram_qlen; it or a sender's buffer was %s",
			r.Socket.QueueLimit+1, Full(r.Socket.QueueFullEvents))
	case r.Socket.State == "listening":
		line += "; how many the kernel's queue holds is not known here, so what is lost in it cannot be seen"
	}
	return line
}

func (r Report) spansLine() string {
	s := r.Spans
	line := fmt.Sprintf("%d accepted, %.1f a second", r.Datagrams.Accepted, s.RatePerSecond)
	line += nonZero("; ", counter{s.Synthesized, "synthesized"})
	line += fmt.Sprintf("; %d exported", s.Exported)
	return line + nonZero(", ",
		counter{s.Pending, "pending"}, counter{s.Spooled, "spooled"},
		counter{s.SampledOut, "sampled out"}, counter{s.Filtered, "filtered"},
		counter{s.DroppedQueueFull, "dropped (queue full)"}, counter{s.DroppedSpoolFull, "dropped (spool full)"},
		counter{s.RejectedByBackend, "rejected by the backend"}) +
		nonZero("; ", counter{s.Truncated, "truncated"}, counter{s.Repaired, "repaired"},
			counter{s.MissingParents, "with a missing parent"})
}

// paymentsLine sums up payments and forwards, if there have been any.
func (r Report) paymentsLine() string {
	p := r.Payments
	if p == nil || p.Parts+p.Forwards == 0 {
		return ""
	}
	line := text.Number(p.Parts, "part", "parts") + positive(", ", p.Failed, "failed") + positive(", ", p.Open, "open") + "; " +
		text.Number(p.Forwards, "forward", "forwards") + positive(", ", p.ForwardsFailed, "failed") + positive(", ", p.ForwardsOpen, "open")
	if p.Open+p.ForwardsOpen > 0 {
		line += "; the oldest is open for " + duration(p.OldestOpenSeconds)
	}
	return line + positive("; ", p.Unjoined, "without a span") + positive("; ", p.Dropped, "dropped")
}

// requestsLine sums up where requests waited, if that is known of any.
func (r Report) requestsLine() string {
	q := &r.Requests
	if q.Paired == 0 {
		return ""
	}
	line := fmt.Sprintf("%d paired: waited for lightningd avg %s, p99 %s", q.Paired, ms(q.WaitAvgMS), ms(q.WaitP99MS))
	if q.Writes > 0 {
		line += fmt.Sprintf("; the answers to %d that write took avg %s, p99 %s", q.Writes, ms(q.AnswerAvgMS), ms(q.AnswerP99MS))
	}
	return line
}

// positive is a counter that is not 0, after the separator.
func positive(separator string, n int64, name string) string {
	return nonZero(separator, counter{count(n), name})
}

func (r Report) exportLine() string {
	e := r.Export
	if e.Endpoint == "" {
		return "not configured yet"
	}
	if e.State == "off" {
		if n := r.Spans.Spooled; n > 0 {
			return "off; " + text.Number(n, "span of before waits", "spans of before wait") + " on disk for an endpoint"
		}
		return "off"
	}
	line := fmt.Sprintf("%s, %s (%s); %s", e.State, e.Endpoint, e.Protocol, text.Number(e.Batches, "batch", "batches"))
	line += nonZero(", ", counter{e.Retries, "retries"})
	if e.Batches > 0 {
		line += fmt.Sprintf(", avg %s, p99 %s", ms(e.AvgMS), ms(e.P99MS))
	}
	switch {
	case e.State == "unreachable" && e.LastSuccess == nil:
		return line + "; nothing delivered yet"
	case e.State == "refusing": // why is in the warnings
	case e.State == "unreachable": // as well
		return line + "; last success " + e.LastSuccess.UTC().Format(time.RFC3339)
	case e.LastError != "":
		line += "; last error"
		if e.LastErrorAt != nil {
			line += " at " + e.LastErrorAt.UTC().Format("15:04:05 UTC")
		}
		line += ": " + e.LastError
	}
	return line
}

// processesLine lists the senders. Processes of the same name are added up.
func (r Report) processesLine() string {
	var names []string
	spans := make(map[string]uint64)
	for _, p := range r.Processes { // busiest first
		if _, known := spans[p.Name]; !known {
			names = append(names, p.Name)
		}
		spans[p.Name] += p.Spans
	}
	more := ""
	if n := len(names) - maxSenders; n > 0 {
		names, more = names[:maxSenders], fmt.Sprintf(", and %d more", n)
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", snip(name, maxSender), spans[name])
	}
	return strings.Join(names, ", ") + more
}

// operationsTable shows the operations.
func (r Report) operationsTable() string {
	header := table.Row{"process", "what", "count", "err", "total", "avg", "p50", "p99", "max"}
	var rows []table.Row
	for _, o := range r.Operations {
		rows = append(rows, table.Row{
			snip(o.Process, processWidth), o.what(), number(o.Count), number(o.Errors),
			ms(o.TotalMS), ms(o.AvgUS / 1000), ms(o.P50US / 1000), ms(o.P99US / 1000), ms(float64(o.MaxUS) / 1000),
		})
	}
	return render(header, rows)
}

// waitsTable shows where the requests among the operations waited; empty: that is known
// of none. It is a table of its own because the other one has no room for more columns.
func (r Report) waitsTable() string {
	header := table.Row{"process", "what", "paired", "wait", "p99 wait", "work", "answer"}
	var rows []table.Row
	for _, o := range r.Operations {
		if o.Paired > 0 {
			rows = append(rows, table.Row{
				snip(o.Process, processWidth), o.what(), number(o.Paired),
				ms(o.WaitAvgUS / 1000), ms(o.WaitP99US / 1000), ms(o.WorkAvgUS / 1000), ms(o.AnswerAvgUS / 1000),
			})
		}
	}
	if len(rows) == 0 {
		return ""
	}
	return render(header, rows)
}

// render writes a table whose first two columns, process and what, are text, and the
// others numbers. What is too long for its column goes on in the lines below, from where
// it can be used as it is for match and for patterns.
func render(header table.Row, rows []table.Row) string {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", " "
	style.Format.HeaderAlign, style.Format.Header = tabletext.AlignDefault, tabletext.FormatUpper
	t.SetStyle(style)
	t.AppendHeader(header)
	var configs []table.ColumnConfig
	for number := 3; number <= len(header); number++ {
		configs = append(configs, table.ColumnConfig{Number: number, Align: tabletext.AlignRight, AlignHeader: tabletext.AlignRight})
	}
	t.SetColumnConfigs(configs)
	width, below, margin := whatWidth(header, rows), make([][]string, len(rows)), columnWidth(0, header, rows)
	for i, row := range rows {
		row[1], below[i] = breakWhat(row[1].(string), width)
		t.AppendRow(row)
	}
	var b strings.Builder
	for i, line := range strings.Split(t.Render(), "\n") {
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		if i > 0 { // the first is the header
			for _, rest := range below[i-1] {
				fmt.Fprintf(&b, "%-*s %s\n", margin, "", rest)
			}
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// breakWhat returns the first line of a WHAT, which is at most width wide, and the lines
// below it, which have the rest of the table's width.
func breakWhat(what string, width int) (first string, below []string) {
	lines := wrap(what, width)
	if tabletext.StringWidth(lines[0]) > width { // by one, for the sake of a wide rune
		lines = wrap(what, width-1)
	}
	if len(lines) == 1 {
		return lines[0], nil
	}
	rest := strings.TrimSpace(strings.TrimPrefix(text.Plain(what), lines[0]))
	return lines[0], wrap(rest, tableWidth-processWidth-2)
}

// whatWidth is the width that the other columns leave to the names of operations: at
// least 23 columns, because counts take at most 6 and times at most 5.
func whatWidth(header table.Row, rows []table.Row) int {
	width := tableWidth
	for i := range header {
		if i != 1 {
			width -= columnWidth(i, header, rows) + 1
		}
	}
	return width
}

func columnWidth(i int, header table.Row, rows []table.Row) int {
	width := tabletext.StringWidth(fmt.Sprint(header[i]))
	for _, row := range rows {
		width = max(width, tabletext.StringWidth(fmt.Sprint(row[i])))
	}
	return width
}

// what names an operation in few columns.
func (o Operation) what() string { return cln.What(o.Process, o.Span, o.Detail) }

// Full says in words how often a queue or a buffer was full.
func Full(times uint64) string {
	switch times {
	case 0:
		return "never full"
	case 1:
		return "full once"
	}
	return fmt.Sprintf("full %d times", times)
}

type counter struct {
	n    uint64
	name string
}

// nonZero lists the counters that are not 0, each after the separator.
func nonZero(separator string, counters ...counter) string {
	var b strings.Builder
	for _, c := range counters {
		if c.n > 0 {
			fmt.Fprintf(&b, "%s%d %s", separator, c.n, c.name)
		}
	}
	return b.String()
}

// number writes a count in at most 6 columns.
func number(n uint64) string {
	const exact = 1_000_000
	if n < exact {
		return strconv.FormatUint(n, 10)
	}
	v, unit := float64(n)/1e6, 0
	for ; v >= 999.95; v /= 1000 {
		unit++
	}
	return fmt.Sprintf("%.1f%c", v, "MGTPE"[unit])
}

// ms writes a time given in milliseconds, with a suitable unit, in at most 5
// columns.
func ms(v float64) string {
	const (
		second = 1000
		hour   = 3600 * second
		year   = 365 * 24 * hour
	)
	decimal := func(v float64, unit string) string {
		if v < 9.95 {
			return fmt.Sprintf("%.1f%s", v, unit)
		}
		return fmt.Sprintf("%.0f%s", v, unit)
	}
	switch {
	case v < 0.9995:
		return fmt.Sprintf("%.0fus", v*1000)
	case v < 999.5:
		return decimal(v, "ms")
	case v < 9999.5*second:
		return decimal(v/second, "s")
	case v < 9999.5*hour:
		return decimal(v/hour, "h")
	case v < 9999.5*year:
		return decimal(v/year, "y")
	}
	return decimal(v/(1000*year), "ky")
}

func bytes(n uint64) string {
	const k = 1000
	switch {
	case n < k:
		return fmt.Sprintf("%d B", n)
	case n < k*k:
		return fmt.Sprintf("%.1f kB", float64(n)/k)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/(k*k))
}

// duration writes seconds in the two largest units that apply.
func duration(seconds int64) string {
	const most = math.MaxInt64 / int64(time.Second)
	return text.Duration(time.Duration(min(seconds, most)) * time.Second)
}

// Time writes a duration as the tables do: 267us, 3.1ms, 12s.
func Time(d time.Duration) string { return ms(d.Seconds() * 1000) }
