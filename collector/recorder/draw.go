package recorder

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"clntrace/collector/text"
)

const (
	// widestTree and narrowestTree bound the column of the tree, whose width follows
	// from what is in it. What it leaves is for the bars.
	widestTree, narrowestTree = 38, 22
	// deepest is how wide the lines of a tree may be to the left of a name.
	deepest   = 20
	timeWidth = 6
	// worthALine is the part of the time line that a request must take for a line
	// about where it waited. The JSON form has that of all requests.
	worthALine = 100
)

// WriteTable writes t as a tree, in ASCII, for a terminal of 80 columns: who did
// what, when, for how long, and as a bar on the time line of the trace. Its error is
// that of w.
func (t *Trace) WriteTable(w io.Writer) error {
	var b strings.Builder
	for _, line := range t.head() {
		b.WriteString(line + "\n")
	}
	b.WriteByte('\n')
	d := newDrawing(arrange(t.Spans))
	d.write(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// serving counts the spans of the traces that served requests of t.
func (t *Trace) serving() (n int) {
	for i := range t.Spans {
		if s := &t.Spans[i]; s.TraceID != "" {
			n += max(s.Count, 1)
		}
	}
	return n
}

// head says what t is, when it was, and why it was kept.
func (t *Trace) head() []string {
	took := "took "
	if t.Status == StatusOpen {
		took = "open for "
	}
	about := []string{
		"began " + t.StartedAt.UTC().Format("2006-01-02 15:04:05.000") + " UTC",
		took + span(millis(t.DurationMS)),
		text.Number(t.Summary.Spans, "span", "spans"),
	}
	if n := t.serving(); n > 0 {
		about = append(about, text.Number(n, "of other traces", "of other traces"))
	}
	if t.Errors > 0 {
		about = append(about, text.Number(t.Errors, "failed", "failed"))
	}
	if t.SpansLeftOut > 0 {
		about = append(about, text.Number(t.SpansLeftOut, "left out", "left out"))
	}
	if len(t.Kept) > 0 {
		about = append(about, "kept: "+strings.Join(t.Kept, ", "))
	}
	what := plain(label(t.Span, t.Detail))
	if t.Status == StatusOpen {
		what = strings.TrimSpace("unfinished " + what)
	}
	title := "Trace " + plain(t.TraceID) + ": " + what
	if t.SpanID != "" {
		title = "Span " + plain(t.SpanID) + " of trace " + plain(t.TraceID) + ": " + what
	}
	if t.Process != "" {
		title += " in " + plain(t.Process)
	}
	switch {
	case t.ErrorType != "":
		title += ", " + plain(t.ErrorType)
	case t.FailedIn != "":
		title += ", " + plain(t.FailedIn) + " failed"
	}
	lines := append(wrap(title, tableWidth), wrap(strings.Join(about, ", "), tableWidth)...)
	if t.WaitsFor != "" {
		lines = append(lines, wrap("waiting for "+plain(t.WaitsFor), tableWidth)...)
	}
	if t.PaymentHash != "" {
		lines = append(lines, "payment "+snip(plain(t.PaymentHash), 64))
	}
	return lines
}

// row is a line of a drawing.
type row struct {
	*node
	prefix string // the lines of the tree
	below  string // those of what stands below
}

// drawing is a tree on its way to text.
type drawing struct {
	rows             []row
	tree, procs, bar int   // widths of columns
	begin, end       int64 // of the time line, µs
}

func newDrawing(roots []*node) *drawing {
	d := new(drawing)
	for _, n := range roots {
		n.fold()
		d.add(n, "", "")
		for _, c := range n.all() {
			d.begin, d.end = min(d.begin, c.begin), max(d.end, c.end)
		}
	}
	d.measure()
	return d
}

// measure finds the widths of the columns. If all spans are of one process, which
// the head names then, there is no column for it.
func (d *drawing) measure() {
	for _, r := range d.rows {
		d.procs = max(d.procs, len(r.process))
		d.tree = max(d.tree, len(r.prefix)+len(r.text()))
	}
	d.procs = min(max(d.procs, len("process")), widestProcess) + 1
	if slices.IndexFunc(d.rows, func(r row) bool { return r.process != d.rows[0].process }) < 0 {
		d.procs = 0
	}
	d.tree = min(max(d.tree, narrowestTree), widestTree)
	const gaps, edges = 3, 2
	d.bar = tableWidth - d.tree - d.procs - 2*timeWidth - gaps - edges
}

// all returns the times of n and of all that is inside.
func (n *node) all() []times {
	list := n.times
	for _, c := range n.children {
		list = append(list[:len(list):len(list)], c.all()...)
	}
	return list
}

// add adds n and what is inside as rows.
func (d *drawing) add(n *node, prefix, below string) {
	r := row{n, shallow(prefix), below}
	if len(n.children) > 0 {
		r.below += "|"
	}
	d.rows = append(d.rows, r)
	for i, c := range n.children {
		branch, inner := "|-", "| "
		if i == len(n.children)-1 {
			branch, inner = "`-", "  "
			if i == 0 {
				inner = " " // an only child: chains of them can be long
			}
		}
		if c.strayed {
			branch = branch[:1] + "?"
		}
		d.add(c, below+branch, below+inner)
	}
}

// shallow shortens the lines to the left of a name that is very deep.
func shallow(prefix string) string {
	if len(prefix) <= deepest {
		return prefix
	}
	return ".." + prefix[len(prefix)-deepest+2:]
}

// text is what stands in the column of the tree, behind its lines.
func (r *row) text() string {
	name := r.name()
	if r.failed > 0 {
		name = "! " + name
	}
	return name
}

func (d *drawing) write(b *strings.Builder) {
	scale := span(micros(d.end - d.begin))
	zero := "0"
	if d.begin < 0 {
		zero = span(micros(d.begin))
	}
	fmt.Fprintf(b, "%-*s %-*s%*s %*s |%s%*s|\n", d.tree, "span", d.procs, snip("process", d.procs),
		timeWidth, "start", timeWidth, "took", zero, d.bar-len(zero), scale)
	sums, brief, open := false, false, false
	for i := range d.rows {
		d.line(b, &d.rows[i])
		r := &d.rows[i]
		sums, brief, open = sums || r.count > 1, brief || r.brief, open || r.Status == StatusOpen
	}
	space := "\n"
	for _, note := range []struct {
		applies bool
		text    string
	}{
		{open, "What is drawn with - has not ended yet."},
		{brief, "What lightningd did for a part is shown for the slowest one."},
		{sums, "Where a row stands for several spans, took is the sum of their times."},
	} {
		if note.applies {
			b.WriteString(space + note.text + "\n")
			space = ""
		}
	}
}

// line writes a row, and its remarks below.
func (d *drawing) line(b *strings.Builder, r *row) {
	name, remarks := r.text(), r.remarks()
	if r.title == "" && r.count == 1 {
		long := !r.brief && r.DurationUS >= (d.end-d.begin)/worthALine
		remarks = slices.Concat(r.waited(long), remarks, r.leads(long))
	}
	fmt.Fprintf(b, "%-*s %-*s%*s %*s |%s|\n", d.tree, clip(r.prefix+name, d.tree), d.procs, clip(r.process, d.procs-1),
		timeWidth, span(micros(r.begin())),
		timeWidth, span(micros(r.busy)), d.draw(r.node))
	margin := shallow(r.below+" ") + " "
	for _, remark := range remarks {
		for _, line := range wrap(remark, tableWidth-len(margin)) {
			b.WriteString(margin + line + "\n")
		}
	}
}

// waited says where a request waited, if it was long.
func (n *node) waited(long bool) []string {
	if !long || n.WaitUS == nil || n.WorkUS == nil {
		return nil
	}
	us := func(n int64) string { return span(micros(n)) }
	return []string{fmt.Sprintf("wait %s, work %s, answer %s", us(*n.WaitUS), us(*n.WorkUS), us(max(n.DurationUS-*n.WaitUS-*n.WorkUS, 0)))}
}

// leads says in which trace more is to be found of n, if n was long.
func (n *node) leads(long bool) []string {
	id := func(key string) string { return snip(plain(n.text(key)), idDigits) }
	switch {
	case n.serves:
		return []string{"a trace of its own: " + snip(plain(n.TraceID), idDigits)}
	case long && n.text(keyServedBy) != "" && !n.servedBelow:
		return []string{"served by trace " + id(keyServedBy) + ", which is not kept"}
	case n.text(keyByRequest) != "":
		return []string{"made by trace " + id(keyByRequest)}
	case n.text(keyContinues) != "":
		return []string{"goes on from trace " + id(keyContinues)}
	}
	return nil
}

// draw draws the bar of n.
func (d *drawing) draw(n *node) string {
	bar := []byte(strings.Repeat(" ", d.bar))
	full, brief := byte('='), byte(':')
	if n.Status == StatusOpen {
		full = '-'
	}
	if n.failed > 0 && n.count == n.failed {
		full, brief = 'x', 'x'
	}
	for _, t := range n.times {
		from, to := d.cell(t.begin), d.cell(t.end)
		if to-from < 1 && t.end-t.begin < (d.end-d.begin)/int64(d.bar) {
			if bar[from] == ' ' {
				bar[from] = brief
			}
			continue
		}
		for i := from; i <= to; i++ {
			bar[i] = full
		}
	}
	return string(bar)
}

// cell is the column of a bar in which the time us is.
func (d *drawing) cell(us int64) int {
	if d.end <= d.begin {
		return 0
	}
	return min(int(float64(us-d.begin)/float64(d.end-d.begin)*float64(d.bar)), d.bar-1)
}
