package stats

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

const (
	tableWidth = 80 // columns of a terminal that nobody has widened
	labelWidth = 9
	// textWidth is one less than there is, for the library lets a wide rune
	// stand out by one.
	textWidth = tableWidth - labelWidth - 1
	// Two columns of text leave 7 for each of the five numbers.
	processWidth = 12
	whatWidth    = 27
	// maxSenders bounds the senders named: some 30 run at once, under two dozen
	// names. maxSender is the width of a name; those of lightningd have 20.
	maxSenders = 40
	maxSender  = 40
)

// WriteTable writes r as aligned text for a terminal of 80 columns: whether
// all is well, what is not, and where the time went.
func (r Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "clntrace %s: %s, up %s\n", r.Version, r.Status, round(time.Duration(r.UptimeSeconds)*time.Second))
	for _, warning := range r.Warnings {
		writeLine(&b, "  !", warning)
	}
	writeLine(&b, "socket", r.socketLine())
	writeLine(&b, "spans", r.spansLine())
	writeLine(&b, "export", r.exportLine())
	if len(r.Processes) > 0 {
		writeLine(&b, "senders", r.processesLine())
	}
	if len(r.Operations) > 0 {
		b.WriteByte('\n')
		b.WriteString(r.operationsTable())
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeLine writes a label and a text behind it, wrapped and indented.
func writeLine(b *strings.Builder, label, line string) {
	for i, part := range strings.Split(text.WrapSoft(plain(line), textWidth), "\n") {
		if i > 0 {
			label = ""
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", labelWidth, label, part), " "))
		b.WriteByte('\n')
	}
}

// plain makes text that somebody else wrote fit for a terminal, on one line.
// lightning-cli shows <, > and & as u003c and the like.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '<':
			return '('
		case r == '>':
			return ')'
		case r == '&':
			return '+'
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

func snip(s string, width int) string { return text.Snip(plain(s), width, "~") }

func (r Report) socketLine() string {
	d := r.Datagrams
	line := r.Socket.State
	if r.Socket.Path != "" {
		line += " on " + r.Socket.Path
	}
	line += fmt.Sprintf("; %d datagrams, %s", d.Received, bytes(d.Bytes))
	line += nonZero(", ", counter{d.Refused, "refused"}, counter{d.Malformed, "malformed"})
	if r.Socket.QueueLimit > 0 {
		line += fmt.Sprintf("; the kernel's queue holds %d and was full %d times", r.Socket.QueueLimit+1, r.Socket.QueueFullEvents)
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

func (r Report) exportLine() string {
	e := r.Export
	if e.Endpoint == "" {
		return "not configured yet"
	}
	if e.State == "off" {
		return "off"
	}
	line := fmt.Sprintf("%s, %s (%s); %d batches", e.State, e.Endpoint, e.Protocol, e.Batches)
	line += nonZero(", ", counter{e.Retries, "retries"})
	if e.Batches > 0 {
		line += fmt.Sprintf(", avg %s, p99 %s", ms(e.AvgMS), ms(e.P99MS))
	}
	if e.LastError != "" {
		line += "; last error: " + e.LastError
	}
	return line
}

// processesLine names the senders, processes of one name together.
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
		names, more = names[:maxSenders], fmt.Sprintf(" and %d others", n)
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", snip(name, maxSender), spans[name])
	}
	return strings.Join(names, ", ") + more
}

func (r Report) operationsTable() string {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", " "
	style.Format.HeaderAlign, style.Format.Header = text.AlignDefault, text.FormatUpper
	t.SetStyle(style)
	t.AppendHeader(table.Row{"process", "what", "count", "err", "total", "avg", "max"})
	configs := []table.ColumnConfig{{Number: 1, WidthMax: processWidth}, {Number: 2, WidthMax: whatWidth}}
	for number := 3; number <= 7; number++ {
		configs = append(configs, table.ColumnConfig{Number: number, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(configs)
	for _, o := range r.Operations {
		t.AppendRow(table.Row{
			snip(o.Process, processWidth), snip(o.what(), whatWidth), number(o.Count), number(o.Errors),
			ms(o.TotalMS), ms(o.AvgUS / 1000), ms(float64(o.MaxUS) / 1000),
		})
	}
	lines := strings.Split(t.Render(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// what names an operation in few columns: a statement's summary says already
// that it is the database.
func (o Operation) what() string {
	switch {
	case o.Detail == "":
		return o.Span
	case strings.HasPrefix(o.Span, "db_"), o.Span == "":
		return o.Detail
	}
	return o.Span + " " + o.Detail
}

type counter struct {
	n    uint64
	name string
}

// nonZero lists the counters that have counted, each behind separator.
func nonZero(separator string, counters ...counter) string {
	var b strings.Builder
	for _, c := range counters {
		if c.n > 0 {
			fmt.Fprintf(&b, "%s%d %s", separator, c.n, c.name)
		}
	}
	return b.String()
}

// number writes a count in 7 columns at most.
func number(n uint64) string {
	const exact = 10_000_000
	if n < exact {
		return strconv.FormatUint(n, 10)
	}
	v, unit := float64(n)/1e6, 0
	for ; v >= 999.95; v /= 1000 {
		unit++
	}
	return fmt.Sprintf("%.1f%c", v, "MGTPE"[unit])
}

// ms writes a time given in milliseconds with a unit that suits it, in 7
// columns at most.
func ms(v float64) string {
	const (
		second = 1000
		hour   = 3600 * second
		year   = 365 * 24 * hour
	)
	switch {
	case v < 0.9995:
		return fmt.Sprintf("%.0fus", v*1000)
	case v < 99.95:
		return fmt.Sprintf("%.1fms", v)
	case v < 9999.5:
		return fmt.Sprintf("%.0fms", v)
	case v < 9999.95*second:
		return fmt.Sprintf("%.1fs", v/second)
	case v < 9999.95*hour:
		return fmt.Sprintf("%.1fh", v/hour)
	}
	return fmt.Sprintf("%.0fy", v/year)
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

// round leaves two units of a duration.
func round(d time.Duration) time.Duration {
	switch {
	case d > time.Hour:
		return d.Round(time.Minute)
	default:
		return d.Round(time.Second)
	}
}
