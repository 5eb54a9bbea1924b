// Package metrics sends OTLP metrics: how long the node's operations take, and
// what becomes of its spans. It counts every span, so its rates are exact whatever
// share of the traces is exported.
//
// Metrics go to the same endpoint as spans. If they fail, spans are not affected.
//
// The package takes the Observations of stats and gives OTLP, through the SDK's
// reader, every interval. It keeps at most maxSeries series, and counts everything
// else as (other).
package metrics
