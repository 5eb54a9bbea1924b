package stats

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

const (
	tableWidth   = 80 // columns of a terminal that nobody has widened
	labelWidth   = 9
	processWidth = 12
	whatWidth    = 27
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
	for i, part := range strings.Split(text.WrapSoft(line, tableWidth-labelWidth), "\n") {
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(b, "%-*s%s\n", labelWidth, label, strings.TrimRight(part, " "))
	}
}

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
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, spans[name])
	}
	return strings.Join(names, ", ")
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
			text.Snip(o.Process, processWidth, "~"), text.Snip(o.what(), whatWidth, "~"), o.Count, o.Errors,
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

// ms writes a time given in milliseconds with a unit that suits it.
func ms(v float64) string {
	switch {
	case v < 0.9995:
		return fmt.Sprintf("%.0fus", v*1000)
	case v < 99.95:
		return fmt.Sprintf("%.1fms", v)
	case v < 9999.5:
		return fmt.Sprintf("%.0fms", v)
	}
	return fmt.Sprintf("%.1fs", v/1000)
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
