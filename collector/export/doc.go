// Package export turns spans into OTLP and sees to it that they arrive.
//
// A span goes through Pipeline.Submit (which decides whether it is exported),
// the SDK's batch processor, the exporter (which names its process and node),
// the SDK's OTLP exporter, and the delivery, which is the SDK's OTLP client
// with the patience that client lacks: it repeats what can be repeated and
// books every span where it ended.
package export
