// Package policy says which spans may leave the process, and what of them may be
// shown. Statistics and metrics count spans that may not leave, too, but neither they
// nor traces show what is redacted.
package policy

import (
	"context"
	"regexp"
	"slices"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
)

// Redacted stands for values that the operator does not want to leave the node.
const Redacted = "[redacted]"

// Config is what the operator wants.
type Config struct {
	Off         bool     // nothing leaves
	SampleRatio float64  // share of traces that leave, 0 to 1
	DropSpans   []string // patterns of the names of spans that do not leave; * stands for any text
	RedactTags  []string // names of tags whose values are not shown
}

// Policy decides as one Config says. A nil Policy lets everything leave and be shown.
type Policy struct {
	off     bool
	sampler sdktrace.Sampler // nil: all
	drop    *regexp.Regexp   // nil: none
	redact  []string
}

// New returns the Policy that cfg describes.
func New(cfg Config) *Policy {
	p := &Policy{off: cfg.Off, redact: cfg.RedactTags, drop: compilePatterns(cfg.DropSpans)}
	if cfg.SampleRatio < 1 {
		p.sampler = sdktrace.TraceIDRatioBased(cfg.SampleRatio)
	}
	return p
}

// compilePatterns returns an expression that matches what any of the patterns
// matches.
func compilePatterns(patterns []string) *regexp.Regexp {
	if len(patterns) == 0 {
		return nil
	}
	parts := make([]string, len(patterns))
	for i, pattern := range patterns {
		parts[i] = strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`)
	}
	return regexp.MustCompile(`^(?:` + strings.Join(parts, "|") + `)$`)
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
	case p.off, p.drops(s.Name), s.Synthetic && p.drops(cln.SpanRequest):
		return Filtered
	case !p.samples(s):
		return SampledOut
	}
	return Leaves
}

// drops reports whether the operator does not want spans of that name. The root that
// was added to requests goes with them (see Verdict): alone it says nothing.
func (p *Policy) drops(name string) bool { return p.drop != nil && p.drop.MatchString(name) }

// samples reports whether s belongs to the share of traces that leaves.
func (p *Policy) samples(s *correlate.Span) bool {
	if p.sampler == nil {
		return true
	}
	result := p.sampler.ShouldSample(sdktrace.SamplingParameters{
		ParentContext: context.Background(), TraceID: s.TraceID, Name: s.Name,
	})
	return result.Decision == sdktrace.RecordAndSample
}

// Show returns the value of a tag, or Redacted if the operator hides that tag.
func (p *Policy) Show(tag, value string) string {
	if p != nil && len(p.redact) > 0 && slices.Contains(p.redact, tag) {
		return Redacted
	}
	return value
}

// Name returns the name of s as it may be shown. That of an added root is the method
// in the requests' id, and redacted like it.
func (p *Policy) Name(s *correlate.Span) string {
	if s.Synthetic {
		return p.Show(cln.TagID, s.Name)
	}
	return s.Name
}

// Detail returns the detail of s as it may be shown: redacted if its tag is.
func (p *Policy) Detail(s *correlate.Span) string {
	switch {
	case s.Detail == "":
		return ""
	case s.Name == cln.SpanRequest, s.Synthetic:
		return p.Show(cln.TagID, s.Detail)
	case cln.IsQuery(s.Name):
		return p.Show(cln.TagQuery, s.Detail)
	}
	return p.Show(cln.TagMethod, s.Detail)
}
