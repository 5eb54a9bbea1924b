package collector

import (
	"time"

	"clntrace/collector/export"
)

// Config is everything an operator can set. The zero value is not usable:
// start from DefaultConfig.
type Config struct {
	// Endpoint is where batches go; its Off form counts spans and exports none.
	Endpoint export.Endpoint
	Protocol export.Protocol
	// Headers are sent with every export request. Their values are secrets.
	Headers     map[string]string
	Timeout     time.Duration // of one export attempt
	Compression export.Compression
	// CAFile, CertFile and KeyFile are PEM files; empty: the system's CAs, no client certificate.
	CAFile, CertFile, KeyFile string

	// ServiceName, if set, replaces the name of each process as service.name.
	ServiceName        string
	ServiceNamespace   string
	ResourceAttributes map[string]string

	GroupRequests bool     // one trace per request, across processes
	SampleRatio   float64  // share of traces exported, 0 to 1
	DropSpans     []string // patterns of span names that are counted but not exported
	RedactTags    []string // tag names whose values are hidden

	QueueSize  int           // spans in memory that wait for export
	BatchSize  int           // spans in one export request at most
	BatchDelay time.Duration // longest wait for a batch to fill

	SpoolDir  string // empty: clntrace-spool in the working directory
	SpoolSize int    // MiB on disk at most, 0: no spool

	AllowUIDs []uint32 // further users whose datagrams are accepted
	Metrics   bool     // also send OTLP metrics
}

// DefaultConfig returns what applies when nothing is set.
func DefaultConfig() Config {
	return Config{
		Endpoint:      export.DefaultEndpoint(export.ProtocolGRPC),
		Protocol:      export.ProtocolGRPC,
		Timeout:       10 * time.Second,
		Compression:   export.CompressionNone,
		GroupRequests: true,
		SampleRatio:   1,
		QueueSize:     65536,
		BatchSize:     2048,
		BatchDelay:    time.Second,
		SpoolSize:     64,
	}
}
