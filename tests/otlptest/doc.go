// Package otlptest is an OTLP endpoint for tests: the OpenTelemetry
// Collector's own OTLP receiver, in process and on the loopback interface,
// that keeps what it accepts, lets a test wait for it, and can be told to
// answer badly.
package otlptest
