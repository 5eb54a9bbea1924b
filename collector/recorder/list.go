package recorder

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/text"
)

const (
	// tableWidth is one column less than a usual terminal has.
	tableWidth = 79
	// widestProcess is the width of the longest common names of plugins.
	widestProcess = 12
	day           = 24 * time.Hour
	idDigits      = 8 // of a trace id: enough to tell thousands apart
)

// WriteTable writes l as aligned text, in ASCII, for a terminal of 80 columns. Its
// error is that of w.
func (l List) WriteTable(w io.Writer) error {
	var b strings.Builder
	width := 0
	for i := range l.Traces {
		width = max(width, len(plain(l.Traces[i].Process)))
	}
	width = min(width, widestProcess)
	open := len(l.Traces) > 0 && l.Traces[0].Status == StatusOpen // then all are
	began := l.began()
	switch {
	case len(l.Traces) == 0:
	case open:
		fmt.Fprintf(&b, "%-*s %-8s %6s  what\n", began.width(), began.head, "trace", "so far")
	default:
		fmt.Fprintf(&b, "%-*s %-8s %6s %5s %4s  what\n", began.width(), began.head, "trace", "took", "spans", "err")
	}
	for i := range l.Traces {
		b.WriteString(l.Traces[i].line(began, width, open) + "\n")
	}
	for _, line := range wrap(l.foot(), tableWidth) {
		b.WriteString(line + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// column says how times are shown: all with their day, or with the day in the head if it
// is the same.
type column struct{ head, format string }

func (c column) width() int { return max(len(c.head), len(c.format)) }

func (l List) began() column {
	for i := range l.Traces {
		if first := l.Traces[0].StartedAt.UTC(); first.Truncate(day) != l.Traces[i].StartedAt.UTC().Truncate(day) {
			return column{"began (UTC)", "01-02 15:04:05"}
		}
	}
	if len(l.Traces) == 0 {
		return column{}
	}
	return column{l.Traces[0].StartedAt.UTC().Format("01-02 UTC"), "15:04:05"}
}

// line is s in the list, where processes have that width. Of what is open the spans are
// not counted yet.
func (s *Summary) line(began column, width int, open bool) string {
	counts := ""
	if !open {
		counts = fmt.Sprintf(" %5s %4s", count(s.Spans), count(s.Errors))
	}
	head := fmt.Sprintf("%-*s %-8s %6s%s  %-*s ", began.width(), s.StartedAt.UTC().Format(began.format), snip(plain(s.ID()), idDigits),
		span(millis(s.DurationMS)), counts, width, clip(plain(s.Process), width))
	what, why := plain(label(s.Span, s.Detail)), plain(s.why())
	if why == "" || len(head)+len(what)+len(why) <= tableWidth {
		return strings.TrimRight(clip(head+what+why, tableWidth), " ")
	}
	// Why is worth a line of its own.
	reason := clip(why[2:], tableWidth)
	return clip(head+clip(what, tableWidth-len(head)-1)+why[:1], tableWidth) +
		"\n" + strings.Repeat(" ", min(len(head), tableWidth-len(reason))) + reason
}

// ID is what tells s from other traces.
func (s *Summary) ID() string { return cmp.Or(s.SpanID, s.TraceID) }

// count is n in a column, or nothing.
func count(n int) string {
	if n == 0 {
		return ""
	}
	return short(n)
}

// what says what s is about, and why it failed or what it waits for.
func (s *Summary) what() string { return plain(label(s.Span, s.Detail) + s.why()) }

// why says why s failed or what it waits for, behind two characters of punctuation; or
// nothing.
func (s *Summary) why() string {
	switch {
	case s.ErrorType != "":
		return ": " + s.ErrorType
	case s.FailedIn != "":
		return ": " + s.FailedIn + " failed"
	case s.WaitsFor != "":
		return ", waiting for " + s.WaitsFor
	}
	return ""
}

// foot says what the list leaves out, and how full the recorder is.
func (l List) foot() string {
	var b strings.Builder
	switch {
	case len(l.Traces) > 0 && l.More > 0:
		fmt.Fprintf(&b, "And %d more. ", l.More)
	case len(l.Traces) > 0 || l.More > 0:
	case l.Query.Match != "":
		fmt.Fprintf(&b, "No trace has '%s' in process, name, detail, error or payment hash. ", plain(l.Query.Match))
		if l.Query.Sort != SortOpen {
			b.WriteString("What runs is under sort=open, and a request comes some 5 s after its last span. ")
		}
	case l.Query.Sort == SortOpen:
		b.WriteString("Nothing is open. ")
	case l.Query.Sort == SortFailed:
		b.WriteString("No trace that is kept has failed. ")
	}
	r := l.Recorder
	fmt.Fprintf(&b, "Kept: %s of %s, %.1f of %.0f MiB", text.Number(r.Traces, "trace", "traces"),
		text.Number(r.Spans, "span", "spans"), mib(r.Bytes), mib(r.LimitBytes))
	if r.Evicted > 0 {
		fmt.Fprintf(&b, "; %d had to make room", r.Evicted)
	}
	return b.String()
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// label says what a span is about in few words.
func label(name, detail string) string {
	switch {
	case detail == "" || detail == name:
		return name
	case cln.IsQuery(name), name == cln.SpanRequest, name == cln.SpanCommand, name == cln.SpanWhole, name == "":
		return detail
	case name == cln.SpanBackend:
		return "bitcoind " + detail
	}
	return name + " " + detail
}
