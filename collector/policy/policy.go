// Package policy says which spans may leave the process, and what of them may be
// shown. Statistics and metrics count spans that may not leave, too, but neither they
// nor traces show what is redacted.
package policy

import (
	"context"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/payments"
)

// Redacted stands for values that the operator does not want to leave the node.
const Redacted = "[redacted]"

// Config is what the operator wants.
type Config struct {
	Off         bool     // nothing leaves
	SampleRatio float64  // share of traces that leave, 0 to 1
	DropSpans   []string // patterns of the names of spans that do not leave; * stands for any text. See Policy.drops
	RedactTags  []string // names of tags whose values are not shown
	Payments    payments.Mode
	NamesAsSent bool // spans keep their names, and are not named after what they are about
}

// Policy decides as one Config says. A nil Policy lets everything leave and be shown.
type Policy struct {
	off     bool
	sampler sdktrace.Sampler // nil: all
	drop    patterns
	redact  []string
	asSent  bool

	payments payments.Mode
}

// New returns the Policy that cfg describes.
func New(cfg Config) *Policy {
	p := &Policy{
		off: cfg.Off, redact: cfg.RedactTags, asSent: cfg.NamesAsSent, payments: cfg.Payments,
		drop: newPatterns(cfg.DropSpans),
	}
	if cfg.SampleRatio < 1 {
		p.sampler = sdktrace.TraceIDRatioBased(cfg.SampleRatio)
	}
	return p
}

// Verdict says whether a span may leave the process.
type Verdict int

// The verdicts.
const (
	Leaves     Verdict = iota
	Filtered           // it is of a kind that the operator does not want, or nothing leaves
	SampledOut         // it is not in the share of traces that leaves
)

// Verdict decides on s, whose trace id must be the final one.
func (p *Policy) Verdict(s *correlate.Span) Verdict {
	switch {
	case p == nil:
		return Leaves
	case p.off, p.drops(s):
		return Filtered
	case !p.Samples(s.TraceID):
		return SampledOut
	}
	return Leaves
}

// drops reports whether the operator does not want spans like s: a pattern matches the
// name as sent, the name under which it leaves, or what tracestats shows of it. The root
// that was added to requests goes with them: alone it says nothing.
func (p *Policy) drops(s *correlate.Span) bool {
	if len(p.drop) == 0 {
		return false
	}
	process := ""
	if s.Process != nil {
		process = s.Process.Name
	}
	names := [4]string{s.Name, s.Name, s.Name, s.Name}
	switch {
	case s.IsRoot():
		names[1], names[2] = cln.SpanRequest, cln.What(process, cln.SpanWhole, s.Detail)
	case s.Detail != "":
		names[1], names[2] = p.Name(s), cln.What(process, s.Name, s.Detail)
	}
	if f := s.Payment; f != nil && f.Outcome != "" && p.payments >= payments.Outcomes {
		names[3] = cln.What(process, string(f.Kind), p.PaymentDetail(f.Channel, f.Outcome))
	}
	return p.drop.match(names[:])
}

// Traffic tells that spans have come for a further minute.
func (p *Policy) Traffic() {
	if p != nil && !p.off {
		p.drop.minute()
	}
}

// Unmatched returns the patterns of spans to drop that have matched nothing for
// IdleMinutes of traffic.
func (p *Policy) Unmatched() []string {
	if p == nil {
		return nil
	}
	return p.drop.unmatched()
}

// Samples reports whether the trace with that id belongs to the share that leaves.
func (p *Policy) Samples(id trace.TraceID) bool {
	if p == nil || p.sampler == nil {
		return true
	}
	result := p.sampler.ShouldSample(sdktrace.SamplingParameters{ParentContext: context.Background(), TraceID: id})
	return result.Decision == sdktrace.RecordAndSample
}

// Show returns the value of a tag, or Redacted if the operator hides that tag.
func (p *Policy) Show(tag, value string) string {
	if p.hides(tag) {
		return Redacted
	}
	return value
}

// HidesMore reports whether p hides the values of tags, or all of payments, that than
// shows on the node.
func (p *Policy) HidesMore(than *Policy) bool {
	if p.Payments() == payments.Off && than.Payments() != payments.Off {
		return true
	}
	return slices.ContainsFunc(p.hidden(), func(tag string) bool { return !than.hides(tag) })
}

func (p *Policy) hidden() []string {
	if p == nil {
		return nil
	}
	return p.redact
}

// Name returns the name under which s leaves: what it is about, as the semantic
// conventions ask for (the RPC method, or verb and table of a statement), or, where that
// is not known, is hidden or is not wanted, the name as sent. That of an added root is
// the method in the requests' id, and redacted like it.
func (p *Policy) Name(s *correlate.Span) string {
	if s.IsRoot() {
		return p.Show(cln.TagID, s.Name)
	}
	if p != nil && p.asSent || s.Detail == "" {
		return s.Name
	}
	if name := p.Detail(s); name != Redacted {
		return name
	}
	return s.Name
}

// Payments says what is made of payments and forwards.
func (p *Policy) Payments() payments.Mode {
	if p == nil {
		return payments.Off
	}
	return p.payments
}

// OnNode returns what may be shown on the node itself: of payments, all that is known.
func (p *Policy) OnNode() *Policy {
	if p.Payments() == payments.Off {
		return p
	}
	own := *p
	own.payments = payments.All
	return &own
}

// HoldsBack reports whether p holds anything back of spans that leave.
func (p *Policy) HoldsBack() bool { return len(p.hidden()) > 0 || p.Payments() != payments.All }

// AppendFacts appends the attributes of a payment or a forward that may be shown, and
// returns the description of the span's status.
func (p *Policy) AppendFacts(list []attribute.KeyValue, f *payments.Facts) (all []attribute.KeyValue, description string) {
	if f == nil || p.Payments() < payments.Outcomes {
		return list, ""
	}
	for _, a := range f.Attributes {
		switch shown, redacted := p.ShowsFact(a.Class); {
		case redacted:
			list = append(list, a.Key.String(Redacted))
		case shown:
			list = append(list, a.KeyValue)
		}
	}
	return list, p.Description(f)
}

// ShowsFact reports whether attributes of that class are shown, and whether their values
// are redacted.
func (p *Policy) ShowsFact(c payments.Class) (shown, redacted bool) {
	shown = payments.Shown(p.Payments(), c)
	return shown, shown && c != payments.Outcome && p.hides(string(c))
}

// Description returns the description of the status of a span as it may be shown: the
// reason may name what is redacted.
func (p *Policy) Description(f *payments.Facts) string {
	switch mode := p.Payments(); {
	case mode < payments.Outcomes:
		return ""
	case slices.ContainsFunc(payments.Classes, func(c payments.Class) bool { return p.hides(string(c)) }):
		return f.Description(payments.Outcomes)
	default:
		return f.Description(mode)
	}
}

// ShowChannel returns the text of a channel as it may be shown on the node.
func (p *Policy) ShowChannel(c cln.Channel) string {
	if c == 0 {
		return ""
	}
	return p.Show(string(payments.Route), c.String())
}

// PaymentDetail returns the detail of a part, a payment or a forward as it may be shown
// on the node: its channel and its outcome.
func (p *Policy) PaymentDetail(c cln.Channel, outcome string) string {
	if channel := p.ShowChannel(c); channel != "" {
		return channel + " " + outcome
	}
	return outcome
}

// Detail returns the detail of s as it may be shown: redacted if its tag is.
func (p *Policy) Detail(s *correlate.Span) string {
	if s.Detail == "" {
		return ""
	}
	return p.Show(detailTag(s.Name, s.IsRoot()), s.Detail)
}

// detailTag returns the tag that the detail of a span follows from.
func detailTag(name string, root bool) string {
	switch {
	case name == cln.SpanRequest, root:
		return cln.TagID
	case cln.IsQuery(name):
		return cln.TagQuery
	}
	return cln.TagMethod
}

// Hides reports whether a detail may not be shown any more that statistics and metrics
// have of spans with that name, since an earlier Policy let them: they add up for as long
// as the process lives.
func (p *Policy) Hides(span, detail string) bool {
	if p == nil || len(p.redact) == 0 || detail == "" || strings.HasPrefix(detail, Redacted) {
		return false
	}
	if slices.Contains(payments.Kinds, payments.Kind(span)) { // see PaymentDetail
		return p.hides(string(payments.Route)) && strings.Contains(detail, " ")
	}
	return p.hides(detailTag(span, span == cln.SpanWhole))
}

func (p *Policy) hides(tag string) bool { return slices.Contains(p.hidden(), tag) }
