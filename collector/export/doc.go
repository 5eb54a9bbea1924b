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
package export
