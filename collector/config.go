package collector

import (
	"time"

	"clntrace/collector/export"
	"clntrace/collector/otlp"
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
		Config: otlp.Config{
			Endpoint:    otlp.DefaultEndpoint(otlp.ProtocolGRPC),
			Protocol:    otlp.ProtocolGRPC,
			Timeout:     10 * time.Second,
			Compression: otlp.CompressionNone,
		},
		GroupRequests: true,
		SampleRatio:   1,
		QueueSize:     export.DefaultQueueSize,
		BatchSize:     2048,
		BatchDelay:    time.Second,
		SpoolSize:     64,
	}}
}
