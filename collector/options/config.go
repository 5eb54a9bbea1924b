package options

import (
	"clntrace/collector/cln"
	"clntrace/collector/export"
)

// Config is everything that an operator can set. The zero Config is not usable;
// start from Defaults.
type Config struct {
	export.Config

	AllowUIDs []uint32 // further users whose datagrams are accepted
	Metrics   bool     // also send OTLP metrics

	SpanNames    cln.SpanNames // names of spans in OTLP
	Payments     cln.Payments  // what is made of payments and forwards
	RecorderSize int           // MiB of memory for the traces that are kept, 0: none
	// PrometheusListen is the host:port on which Prometheus may scrape; empty: none.
	PrometheusListen string
}

// Defaults returns the configuration that applies if nothing is set.
func Defaults() Config {
	var cfg Config
	for _, o := range table {
		if o.Default != "" {
			_ = o.set(&cfg, o.Default) // a default can be used, as the tests make sure
		}
	}
	return cfg
}
