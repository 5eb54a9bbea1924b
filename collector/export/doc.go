// Package export turns spans into OTLP and sees to it that they arrive.
//
// A span goes through Pipeline.Submit (which decides whether it is exported),
// the SDK's batch processor, the exporter (which names its process and node),
// the SDK's OTLP exporter, and the delivery, which is the SDK's OTLP client
// with the patience that client lacks: it books every span where it ended, and
// what the endpoint has not taken goes to the spool.
//
// While the endpoint is away only the oldest batch of the spool is tried, with
// back-off; new batches go behind it. Once that one is through, new batches
// are sent directly again, beside the backlog, which goes oldest first and at
// a pace that leaves the endpoint time for others.
//
// It gets Spans of correlate and gives OTLP requests, and books each span where
// it ended. A span enters only with a reservation (Reserve): there are as many
// as the queue's size says, and they have maxQueueBytes together. A request has
// maxRequestBytes at most, below what receivers accept by default, and of a small
// spool a quarter.
//
// Read pipeline.go first, then span.go and attributes.go (what a span becomes),
// delivery.go, attempt.go and drain.go (how it arrives), and endpoint.go and
// connect.go (where). The next room is spool.
package export
