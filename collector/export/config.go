package export

import (
	"time"

	"clntrace/collector/otlp"
)

// Config says where spans go, which of them, and in what form.
type Config struct {
	// Config says where batches go. If the endpoint is off, spans are counted and not
	// exported.
	otlp.Config

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

	SpoolDir  string // where batches wait while the endpoint is away; empty: DefaultSpoolDir
	SpoolSize int    // MiB on disk at most, 0: no spool
}

// DefaultSpoolDir is where the spool is if nothing else is set, in the working
// directory.
const DefaultSpoolDir = "clntrace-spool"

// Node identifies the node whose spans these are. Empty fields are unknown.
type Node struct {
	ID, Alias, Network, Version string
	// Database is the scheme of lightningd's wallet option, "sqlite3" or "postgres".
	Database string
}
