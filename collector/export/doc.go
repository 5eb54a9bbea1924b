// Package export turns spans into OTLP and makes sure that they arrive, or are
// counted.
//
// A span passes through Pipeline.Submit; the SDK's batch processor; the exporter, which fills in its process and node; the
// SDK's OTLP exporter; and the delivery, which wraps the SDK's OTLP client. The
// SDK drops what it cannot deliver without saying what; the delivery retries, puts
// into the spool what the endpoint does not take, and books for every span what
// became of it.
//
// While the endpoint is away only the oldest batch in the spool is tried, with
// back-off; new batches join the spool. As soon as one has got through, new
// batches are sent directly again. The backlog is sent beside them, oldest first,
// and slowly enough to leave the endpoint time for others.
//
// The package takes Spans of correlate that may leave (package policy) and for which
// there is room (package memory), gives OTLP requests, books each span and releases
// its room. What may be shown of a span is decided when it leaves. A request has at
// most maxRequestBytes, below what receivers accept by default, and at most a quarter of
// a small spool.
//
// Read pipeline.go first, then span.go and attributes.go (what becomes of a span),
// delivery.go and drain.go (how it arrives), and health.go (how the endpoint is doing,
// and what of that is logged). Where the endpoint is, how to connect to it and what its
// answers mean is in package otlp.
package export
