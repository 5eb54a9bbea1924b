// Package metrics sends OTLP metrics: how long the node's operations take, and
// what becomes of its spans. It counts every span, so that its rates are exact
// whatever share of the traces is exported.
//
// Metrics go where spans go. What becomes of them never matters to spans.
//
// It gets the Observations of stats and gives OTLP, through the SDK's reader,
// every interval. It keeps maxSeries series; what is beyond counts in (other).
//
// The next room is export.
package metrics
