package collector

import (
	"time"

	"clntrace/collector/export"
	"clntrace/collector/policy"
)

// Config is everything that an operator can set. The zero Config is not usable;
// start from DefaultConfig.
type Config struct {
	export.Config

	AllowUIDs []uint32 // further users whose datagrams are accepted
	Metrics   bool     // also send OTLP metrics
}

// DefaultConfig returns the configuration that applies if nothing is set.
func DefaultConfig() Config {
	return Config{Config: export.Config{
		Endpoint:      export.DefaultEndpoint(export.ProtocolGRPC),
		Protocol:      export.ProtocolGRPC,
		Timeout:       10 * time.Second,
		Compression:   export.CompressionNone,
		GroupRequests: true,
		SampleRatio:   1,
		QueueSize:     export.DefaultQueueSize,
		BatchSize:     2048,
		BatchDelay:    time.Second,
		SpoolSize:     64,
	}}
}

// policy is what c says about which spans may leave, and what of them may be shown.
func (c Config) policy() *policy.Policy {
	return policy.New(policy.Config{
		Off: c.Endpoint.Off(), SampleRatio: c.SampleRatio, DropSpans: c.DropSpans, RedactTags: c.RedactTags,
	})
}
