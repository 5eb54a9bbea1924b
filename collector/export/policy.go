package export

import (
	"context"
	"regexp"
	"slices"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
)

// Policy decides which spans are exported, and what of them may be shown. A nil
// Policy exports and shows everything.
type Policy struct {
	off     bool
	sampler sdktrace.Sampler // nil: all
	drop    *regexp.Regexp   // nil: none
	redact  []string
}

func newPolicy(cfg Config) *Policy {
	p := &Policy{off: cfg.Endpoint.Off(), redact: cfg.RedactTags, drop: compilePatterns(cfg.DropSpans)}
	if cfg.SampleRatio < 1 {
		p.sampler = sdktrace.TraceIDRatioBased(cfg.SampleRatio)
	}
	return p
}

// compilePatterns returns an expression that matches what any of the patterns
// matches, in which * stands for any text.
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

// filters reports whether s is counted and not exported.
func (p *Policy) filters(s *correlate.Span) bool {
	return p != nil && (p.off || p.drops(s.Name) || s.Synthetic && p.drops(cln.SpanRequest))
}

// drops reports whether the operator does not want spans of that name. The root that
// was added to requests goes with them (see filters): alone it says nothing.
func (p *Policy) drops(name string) bool { return p.drop != nil && p.drop.MatchString(name) }

// samples reports whether s belongs to the share of traces that is exported.
func (p *Policy) samples(s *correlate.Span) bool {
	if p == nil || p.sampler == nil {
		return true
	}
	result := p.sampler.ShouldSample(sdktrace.SamplingParameters{
		ParentContext: context.Background(), TraceID: s.TraceID, Name: s.Name,
	})
	return result.Decision == sdktrace.RecordAndSample
}

// show returns the value of a tag, or redacted if the tag is.
func (p *Policy) show(tag, value string) string {
	if p != nil && len(p.redact) > 0 && slices.Contains(p.redact, tag) {
		return redacted
	}
	return value
}

// Name returns the name of s as it may be shown. That of an added root is the method
// in the requests' id, and redacted like it.
func (p *Policy) Name(s *correlate.Span) string {
	if s.Synthetic {
		return p.show(cln.TagID, s.Name)
	}
	return s.Name
}

// Detail returns the detail of s as it may be shown: redacted if its tag is.
func (p *Policy) Detail(s *correlate.Span) string {
	switch {
	case s.Detail == "":
		return ""
	case s.Name == cln.SpanRequest, s.Synthetic:
		return p.show(cln.TagID, s.Detail)
	case cln.IsQuery(s.Name):
		return p.show(cln.TagQuery, s.Detail)
	}
	return p.show(cln.TagMethod, s.Detail)
}
