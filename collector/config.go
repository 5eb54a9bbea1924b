package collector

import (
	"clntrace/collector/cln"
	"clntrace/collector/options"
	"clntrace/collector/policy"
)

// Config is everything that an operator can set. The zero Config is not usable;
// start from DefaultConfig.
type Config = options.Config

// DefaultConfig returns the configuration that applies if nothing is set.
func DefaultConfig() Config { return options.Defaults() }

// policyOf is what c says about which spans may leave, and what of them may be shown.
func policyOf(c Config) *policy.Policy {
	return policy.New(policy.Config{
		Off: c.Endpoint.Off(), SampleRatio: c.SampleRatio, DropSpans: c.DropSpans, RedactTags: c.RedactTags,
		NamesAsSent: c.SpanNames == cln.SpanNamesAsSent, Payments: c.Payments,
	})
}
