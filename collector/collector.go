// Package collector takes trace spans from a unix datagram socket to OTLP.
package collector

import (
	"context"
	"log/slog"

	"clntrace/collector/stats"
)

// Options is what a Collector needs before its configuration is known.
type Options struct {
	// SocketPath is where to listen: the value of CLN_TRACE_SOCKET.
	SocketPath string
	// SocketProblem, if set, is the reason why there is no SocketPath, for the user to read.
	SocketProblem string
	Version       string
	Logger        *slog.Logger
}

// Node is who the spans' node is. Empty fields are unknown.
type Node struct {
	ID, Alias, Network, Version string
	// Database is the scheme of lightningd's wallet option, "sqlite3" or "postgres".
	Database string
}

// Collector receives, counts and exports spans.
type Collector struct{}

// Open binds the socket and begins to receive and count. It does not fail: a
// collector that cannot bind is degraded, and its Stats say why.
func Open(o Options) *Collector { return &Collector{} }

// Start begins to export with cfg what has been received since Open and what
// comes. Problems are sentences about options that could not be used; with
// any, the collector is degraded and exports nothing until a Reconfigure.
func (c *Collector) Start(cfg Config, problems []string) {}

// SetNode names the node; exporting waits for it, at most NodeWait.
func (c *Collector) SetNode(n Node) {}

// Reconfigure puts the fields of cfg into effect that can change at run time:
// Endpoint, Headers, SampleRatio, DropSpans, RedactTags. Problems are as in Start.
func (c *Collector) Reconfigure(cfg Config, problems []string) error { return nil }

// Stats reports on everything since Open.
func (c *Collector) Stats(q stats.Query) stats.Report { return stats.Report{} }

// Shutdown stops receiving, exports what is left for as long as ctx lasts and
// removes the socket.
func (c *Collector) Shutdown(ctx context.Context) error { return nil }
